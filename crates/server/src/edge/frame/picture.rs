//! Frames that are PNG or JPEG pictures.

use scuro_nn::data::picture::Header;

use super::{Content, FrameFault, Layout, check_size};

/// Reads a PNG or JPEG of exactly the model's size; a colour picture is turned to gray for a gray
/// model, and a gray one is repeated for a model that takes colour. For a model that takes a vector
/// the picture is square, and read channel by channel, row by row.
///
/// # Errors
/// [`FrameFault::TooLarge`], [`FrameFault::Picture`], [`FrameFault::PictureShape`].
pub fn from_picture(bytes: &[u8], layout: Layout) -> Result<Content, FrameFault> {
    check_size(bytes.len())?;
    let header = Header::read(bytes).map_err(|_| FrameFault::Picture)?;
    let found = header.shape();
    let expected = match found[1..] == layout.image[1..] {
        true => layout.image,
        false => shape(layout),
    };
    // Before it is decoded: a small file may hold a picture that fills the memory.
    let has_channels = found[0] == expected[0] || matches!(expected[0], 1 | 3);
    if found[1..] != expected[1..] || !has_channels {
        return Err(FrameFault::PictureShape { found, expected });
    }
    let picture = header.decode().map_err(|_| FrameFault::Picture)?;
    let pixels = match (found[0], expected[0]) {
        (3, 1) => {
            let gray = picture.luminance();
            gray.iter().map(|p| p.round() as u8).collect()
        }
        (1, 3) => picture.pixels.repeat(3),
        _ => picture.pixels,
    };
    Ok(Content::Pixels(pixels))
}

/// Channels, height and width of a picture for the model. That for a vector is square: gray
/// if the length of the vector is a square number, else in colour if a third of it is one. A
/// vector does not tell the sides of any other, and a picture on its side would be accepted.
fn shape(layout: Layout) -> [usize; 3] {
    let [channels, height, width] = layout.image;
    let elements = layout.elements();
    let square = |channels: usize| {
        let side = (elements / channels).isqrt();
        (channels * side * side == elements).then_some([channels, side, side])
    };
    match (channels, height, width) {
        (1, 1, 2..) => square(1).or_else(|| square(3)).unwrap_or(layout.image),
        (3, 1, 2..) => square(3).unwrap_or(layout.image),
        _ => layout.image,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scuro_testkit::png;

    const fn layout(image: [usize; 3]) -> Layout {
        Layout { image }
    }

    fn numbered(count: usize) -> Vec<u8> {
        (0..count).map(|i| (i % 251) as u8).collect()
    }

    #[test]
    fn a_picture_of_another_size_is_refused_before_it_is_decoded() {
        let fault = from_picture(b"not a picture", layout([1, 28, 28]));
        assert_eq!(fault, Err(FrameFault::Picture));
        // There are no pixels in it: decoding it would be another fault.
        let large = png::hollow(11_000, 11_000);
        for (image, expected) in [
            ([1, 28, 28], [1, 28, 28]),
            ([3, 32, 32], [3, 32, 32]),
            ([1, 1, 784], [1, 28, 28]),
        ] {
            let found = [1, 11_000, 11_000];
            let fault = FrameFault::PictureShape { found, expected };
            assert_eq!(from_picture(&large, layout(image)), Err(fault));
        }
        let hollow = from_picture(&png::hollow(28, 28), layout([1, 28, 28]));
        assert_eq!(hollow, Err(FrameFault::Picture));
    }

    #[test]
    fn a_vector_takes_the_square_picture_of_its_length() {
        let gray = png::png(28, 28, &numbered(784));
        let colour = png::png(4, 4, &[10, 20, 30].repeat(16));
        let planes = [[10; 16], [20; 16], [30; 16]].concat();
        let cases = [
            (&gray, [1, 1, 784], numbered(784)),
            (&colour, [1, 1, 48], planes.clone()),
            (&colour, [3, 1, 16], planes),
            // Gray as for a gray image: 0.299 * 10 + 0.587 * 20 + 0.114 * 30.
            (&colour, [1, 1, 16], vec![18; 16]),
            (&gray, [3, 1, 784], numbered(784).repeat(3)),
        ];
        for (picture, image, expected) in cases {
            let found = from_picture(picture, layout(image));
            assert_eq!(found, Ok(Content::Pixels(expected)), "{image:?}");
        }
        // The same number of pixels in another shape, and a length that no square has.
        let oblong = png::png(56, 14, &numbered(784));
        for (picture, image) in [(&oblong, [1, 1, 784]), (&oblong, [1, 1, 785])] {
            let found = from_picture(picture, layout(image)).expect_err("refused");
            assert_eq!(found.code(), "picture-shape", "{image:?}");
        }
        let row = from_picture(&png::png(785, 1, &numbered(785)), layout([1, 1, 785]));
        assert_eq!(row, Ok(Content::Pixels(numbered(785))));
    }

    #[test]
    fn pictures_for_images_are_turned_to_gray_or_repeated() {
        let gray = png::png(2, 3, &numbered(6));
        let found = from_picture(&gray, layout([3, 3, 2]));
        assert_eq!(found, Ok(Content::Pixels(numbered(6).repeat(3))));
        let colour = png::png(2, 1, &[10, 20, 30, 200, 200, 200]);
        let found = from_picture(&colour, layout([1, 1, 2]));
        assert_eq!(found, Ok(Content::Pixels(vec![18, 200])));
        let found = from_picture(&colour, layout([3, 1, 2]));
        assert_eq!(found, Ok(Content::Pixels(vec![10, 200, 20, 200, 30, 200])));
        let many = from_picture(&gray, layout([4, 3, 2])).expect_err("four channels");
        assert_eq!(many.code(), "picture-shape");
    }
}
