//! PNG files whose every byte is known: nothing is packed, and a comment takes them to any length.

/// Bytes of a chunk besides its content: length, name, checksum.
const CHUNK: usize = 12;

/// A PNG of `pixels`, row by row: one byte a pixel is gray, three are red, green and blue.
///
/// # Panics
/// If the pixels are no whole rows, or more than one stored block (65,535 bytes) holds.
pub fn png(width: usize, height: usize, pixels: &[u8]) -> Vec<u8> {
    let colour = pixels.len() == 3 * width * height;
    assert!(colour || pixels.len() == width * height, "whole rows");
    let rows = pixels.chunks(pixels.len() / height);
    // Each row starts with its filter: none.
    let raw: Vec<u8> = rows.flat_map(|row| [&[0][..], row].concat()).collect();
    file(width, height, colour, &stored(&raw))
}

/// A PNG that claims to be this large, and holds no pixel.
pub fn hollow(width: usize, height: usize) -> Vec<u8> {
    file(width, height, false, &stored(&[]))
}

/// `png` with a comment that makes it `bytes` long.
///
/// # Panics
/// If there is no room for a comment.
pub fn stretched(png: &[u8], bytes: usize) -> Vec<u8> {
    let room = bytes.checked_sub(png.len() + CHUNK);
    let mut text = b"Comment\0".to_vec();
    text.resize(room.expect("room for a comment"), b'x');
    let (head, rest) = png.split_at(SIGNATURE.len() + CHUNK + 13);
    [head, &chunk(b"tEXt", &text), rest].concat()
}

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

fn file(width: usize, height: usize, colour: bool, data: &[u8]) -> Vec<u8> {
    let side = |side: usize| u32::try_from(side).expect("a side").to_be_bytes();
    let mut header = [side(width), side(height)].concat();
    // Bits a channel, kind of colour, and three kinds of which there is one.
    header.extend([8, if colour { 2 } else { 0 }, 0, 0, 0]);
    let chunks = [
        chunk(b"IHDR", &header),
        chunk(b"IDAT", data),
        chunk(b"IEND", b""),
    ];
    [SIGNATURE, &chunks.concat()].concat()
}

fn chunk(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let named = [&name[..], content].concat();
    let length = u32::try_from(content.len()).expect("a chunk");
    let checksum = crc32(&named).to_be_bytes();
    [&length.to_be_bytes()[..], &named, &checksum].concat()
}

/// A zlib stream of one stored block.
fn stored(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("one block");
    let mut stream = vec![0x78, 0x01, 0x01];
    stream.extend(length.to_le_bytes());
    stream.extend((!length).to_le_bytes());
    stream.extend_from_slice(bytes);
    stream.extend(adler32(bytes).to_be_bytes());
    stream
}

fn adler32(bytes: &[u8]) -> u32 {
    let (low, high) = bytes.iter().fold((1, 0), |(low, high), &byte| {
        let low = (low + u32::from(byte)) % 65_521;
        (low, (high + low) % 65_521)
    });
    high << 16 | low
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}
