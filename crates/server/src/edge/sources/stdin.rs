//! Frames on standard input: one JSON object a line, or raw frames one after the other.

use std::io::{BufRead, BufReader, Read};

use tokio::sync::mpsc;

use super::{Acquisition, Source, unless_stopping};
use crate::edge::frame::{FrameFault, FrameId, Layout, MAX_FRAME_BYTES};
use crate::edge::intake::{Arrival, Form, Intake};
use crate::error::Error;

const NAME: &str = "stdin";
/// Frames read ahead of the queue.
const AHEAD: usize = 32;

/// How frames follow each other in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamFormat {
    /// One JSON object a line.
    JsonLines,
    /// As many bytes a frame as the model takes pixels that is active when reading starts. A later
    /// model of another size does not change it: nobody knows where in the stream the frames of the
    /// new size begin, and frames cut elsewhere would be answered all the same.
    Raw,
}

/// Standard input, or any other stream.
pub struct Stdin {
    format: StreamFormat,
    stream: Box<dyn Read + Send>,
    /// Told apart by it: raw frames of two runs are different frames.
    run: String,
}

impl std::fmt::Debug for Stdin {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Stdin")
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

impl Stdin {
    /// Reads the process's standard input. `run` names this run of the device.
    pub fn new(format: StreamFormat, run: &str) -> Self {
        Self::reading(format, run, Box::new(std::io::stdin()))
    }

    /// Reads another stream.
    pub fn reading(format: StreamFormat, run: &str, stream: Box<dyn Read + Send>) -> Self {
        Self {
            format,
            stream,
            run: run.to_string(),
        }
    }

    async fn read(self, intake: Intake) -> Result<(), Error> {
        let layout = intake.wait_for_layout().await?;
        let (sender, mut frames) = mpsc::channel(AHEAD);
        let (format, run) = (self.format, self.run);
        let mut stream = BufReader::with_capacity(1 << 16, self.stream);
        // A thread of its own: a read from a terminal cannot be called off, and ends with the
        // process.
        let reader = move || {
            let mut number = 0u64;
            while let Some(item) = next_item(&mut stream, format, layout) {
                number += 1;
                if sender.blocking_send((number, item)).is_err() {
                    break;
                }
            }
        };
        let spawned = std::thread::Builder::new()
            .name(NAME.to_string())
            .spawn(reader);
        spawned.map_err(Error::io("start a thread for", NAME.as_ref()))?;
        loop {
            let item = tokio::select! {
                item = frames.recv() => item,
                () = intake.stopped() => return Ok(()),
            };
            let Some((number, item)) = item else {
                tracing::info!(source = NAME, "the stream has ended");
                return Ok(());
            };
            let bytes = match item {
                Ok(bytes) => bytes,
                Err(fault) => {
                    intake.refuse(NAME, fault);
                    continue;
                }
            };
            let arrival = Arrival {
                id: Some(FrameId::new(format!("{NAME}-{run}-{number}"))?),
                form: match format {
                    StreamFormat::JsonLines => Form::Json,
                    StreamFormat::Raw => Form::Raw,
                },
                bytes,
            };
            match intake.offer_until_taken(NAME, &arrival).await {
                Ok(_) | Err(Error::Frame(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Bytes of one frame, or what is wrong with them.
pub type Item = Result<Vec<u8>, FrameFault>;

impl Source for Stdin {
    fn name(&self) -> &'static str {
        NAME
    }

    fn acquire(self: Box<Self>, intake: Intake) -> Acquisition {
        Box::pin(async move { unless_stopping(self.read(intake).await) })
    }
}

/// The next frame of a stream, or what is wrong with it; nothing at its end.
pub fn next_item(stream: &mut impl BufRead, format: StreamFormat, layout: Layout) -> Option<Item> {
    match format {
        StreamFormat::JsonLines => next_line(stream),
        StreamFormat::Raw => next_raw(stream, layout.elements()),
    }
}

/// The next line that is not blank; one that is too long is skipped to its end.
fn next_line(stream: &mut impl BufRead) -> Option<Item> {
    loop {
        let mut line = Vec::new();
        let limit = MAX_FRAME_BYTES as u64 + 1;
        // A stream that breaks has ended.
        let read = stream
            .by_ref()
            .take(limit)
            .read_until(b'\n', &mut line)
            .ok()?;
        if read == 0 {
            return None;
        }
        if line.last() != Some(&b'\n') && line.len() > MAX_FRAME_BYTES {
            let found = line.len() + skip_line(stream);
            let limit = MAX_FRAME_BYTES;
            return Some(Err(FrameFault::TooLarge { found, limit }));
        }
        let line = line.trim_ascii();
        if !line.is_empty() {
            return Some(Ok(line.to_vec()));
        }
    }
}

/// Skips to the end of the line; how many bytes that took.
fn skip_line(stream: &mut impl BufRead) -> usize {
    let mut skipped = 0;
    loop {
        let Ok(buffer) = stream.fill_buf() else {
            return skipped;
        };
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let (count, last) = match end {
            Some(place) => (place + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        stream.consume(count);
        skipped += count;
        if last {
            return skipped;
        }
    }
}

fn next_raw(stream: &mut impl Read, expected: usize) -> Option<Item> {
    let mut frame = Vec::new();
    stream
        .by_ref()
        .take(expected as u64)
        .read_to_end(&mut frame)
        .ok()?;
    match frame.len() {
        0 => None,
        found if found < expected => Some(Err(FrameFault::Truncated { found, expected })),
        _ => Some(Ok(frame)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn all(bytes: &[u8], format: StreamFormat) -> Vec<Item> {
        let layout = Layout { image: [1, 2, 2] };
        let mut stream = Cursor::new(bytes.to_vec());
        std::iter::from_fn(|| next_item(&mut stream, format, layout)).collect()
    }

    #[test]
    fn lines_end_where_they_end_and_blank_ones_are_nothing() {
        let found = all(b"{}\r\n\n  \n[]\nlast", StreamFormat::JsonLines);
        let expected = [&b"{}"[..], b"[]", b"last"].map(|line| Ok(line.to_vec()));
        assert_eq!(found, expected);
    }

    #[test]
    fn a_line_without_end_is_skipped_and_the_next_one_read() {
        let mut bytes = vec![b'x'; MAX_FRAME_BYTES + 100];
        bytes.extend_from_slice(b"\n{}\n");
        let found = all(&bytes, StreamFormat::JsonLines);
        let fault = FrameFault::TooLarge {
            found: MAX_FRAME_BYTES + 101,
            limit: MAX_FRAME_BYTES,
        };
        assert_eq!(found, [Err(fault), Ok(b"{}".to_vec())]);
    }

    #[test]
    fn raw_frames_have_one_size_and_a_torn_last_one_is_told() {
        let found = all(&[1, 2, 3, 4, 5, 6, 7, 8, 9], StreamFormat::Raw);
        let torn = FrameFault::Truncated {
            found: 1,
            expected: 4,
        };
        assert_eq!(
            found,
            [Ok(vec![1, 2, 3, 4]), Ok(vec![5, 6, 7, 8]), Err(torn)]
        );
    }
}
