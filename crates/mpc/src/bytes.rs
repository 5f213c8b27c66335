//! Words as bytes of messages.

use crate::error::Error;
use crate::party::Party;

/// The low `width` bytes of every word, lowest first.
pub(crate) fn put(message: &mut Vec<u8>, words: &[u64], width: usize) {
    let bytes = words
        .iter()
        .flat_map(|word| word.to_le_bytes().into_iter().take(width));
    message.extend(bytes);
}

/// A message that is taken apart from the front.
pub(crate) struct Message {
    from: Party,
    bytes: Vec<u8>,
    at: usize,
}

impl Message {
    pub(crate) fn new(from: Party, bytes: Vec<u8>) -> Self {
        Self { from, bytes, at: 0 }
    }

    /// The next `count` words of `width` bytes.
    pub(crate) fn take(&mut self, count: usize, width: usize) -> Result<Vec<u64>, Error> {
        let end = self.at + count * width;
        let bytes = self
            .bytes
            .get(self.at..end)
            .ok_or_else(|| self.fault(end))?;
        self.at = end;
        let word = |bytes: &[u8]| {
            let mut word = [0; 8];
            word[..width].copy_from_slice(bytes);
            u64::from_le_bytes(word)
        };
        Ok(bytes.chunks_exact(width).map(word).collect())
    }

    /// That nothing is left.
    pub(crate) fn end(self) -> Result<(), Error> {
        match self.at == self.bytes.len() {
            true => Ok(()),
            false => Err(self.fault(self.at)),
        }
    }

    fn fault(&self, expected: usize) -> Error {
        Error::Message {
            from: self.from,
            found: self.bytes.len(),
            expected,
        }
    }
}
