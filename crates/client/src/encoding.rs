//! Images to slots and slots to scores, by the program's layout.

use scuro_program::{Gather, InputSpec, NO_ELEMENT, Program, Scheme, SlotAddress};

use crate::error::Error;

/// The slot vectors of one run of `program`, one a query ciphertext. Those of an exact program are
/// rounded to its fixed-point numbers.
///
/// Where a program takes a few images side by side and gets fewer, places that are left over repeat
/// them, so that the reply still holds nothing but outputs for these images.
///
/// # Errors
/// [`Error::ImageShape`], [`Error::ImageNotFinite`] and [`Error::ImageOutOfRange`] name the first
/// bad image; [`Error::NoImages`] and [`Error::TooManyImages`] if the number does not fit the
/// packing.
pub fn gather(program: &Program, images: &[&[f32]]) -> Result<Vec<Vec<f64>>, Error> {
    let limit = images_per_run(program);
    match images.len() {
        0 => return Err(Error::NoImages),
        found if found > limit => return Err(Error::TooManyImages { found, limit }),
        _ => {}
    }
    for (image, values) in images.iter().enumerate() {
        check_image(&program.input, image, values)?;
    }
    let mut slots: Vec<Vec<f64>> = match &program.input.gather {
        Gather::Slots(maps) => maps.iter().map(|map| fill_slots(map, images)).collect(),
        Gather::Batch => (0..program.input.elements())
            .map(|element| column(images, element, program.slots()))
            .collect(),
    };
    if program.parameters.scheme != Scheme::Ckks {
        let scale = program.input.scale_log2.exp2();
        let values = slots.iter_mut().flatten();
        values.for_each(|value| *value = (*value * scale).round() / scale);
    }
    Ok(slots)
}

/// Scores of each of `images` images from the slots of one run's reply ciphertexts.
///
/// # Errors
/// [`Error::CiphertextCount`] if an address lies outside; [`Error::TooManyImages`].
pub fn scatter(
    program: &Program,
    slots: &[Vec<f64>],
    images: usize,
) -> Result<Vec<Vec<f64>>, Error> {
    let addresses = &program.output.addresses;
    let classes = program.output.elements();
    let of_image = |image: usize| match &program.input.gather {
        Gather::Slots(_) => (addresses.get(image * classes..(image + 1) * classes), 0),
        Gather::Batch => (Some(&addresses[..]), image),
    };
    let one = |image| {
        let (addresses, offset) = of_image(image);
        let limit = images_per_run(program);
        let found = images;
        let addresses = addresses.ok_or(Error::TooManyImages { found, limit })?;
        let scores = scores(addresses, slots, offset)?.into_iter();
        Ok(scores.map(|score| score * program.output.factor).collect())
    };
    (0..images).map(one).collect()
}

/// Most images of one run of `program`.
pub(crate) fn images_per_run(program: &Program) -> usize {
    program.input.examples as usize
}

pub(crate) fn check_image(input: &InputSpec, image: usize, values: &[f32]) -> Result<(), Error> {
    let expected = input.elements();
    if values.len() != expected {
        return Err(Error::ImageShape {
            image,
            found: values.len(),
            expected,
        });
    }
    for (position, &value) in values.iter().enumerate() {
        if !value.is_finite() {
            return Err(Error::ImageNotFinite { image, position });
        }
        if value < input.minimum || value > input.maximum {
            let (minimum, maximum) = (input.minimum, input.maximum);
            return Err(Error::ImageOutOfRange {
                image,
                position,
                value,
                minimum,
                maximum,
            });
        }
    }
    Ok(())
}

/// Slots of a query of a few images, all of one size.
fn fill_slots(map: &[u32], images: &[&[f32]]) -> Vec<f64> {
    let elements = images[0].len();
    let value = |&element: &u32| match element {
        NO_ELEMENT => 0.0,
        index => {
            let (image, element) = (index as usize / elements, index as usize % elements);
            f64::from(images[image % images.len()][element])
        }
    };
    map.iter().map(value).collect()
}

/// One element of every image; slots without an image hold zero.
fn column(images: &[&[f32]], element: usize, slots: usize) -> Vec<f64> {
    let mut column: Vec<f64> = images
        .iter()
        .map(|image| f64::from(image[element]))
        .collect();
    column.resize(slots, 0.0);
    column
}

fn scores(addresses: &[SlotAddress], slots: &[Vec<f64>], offset: usize) -> Result<Vec<f64>, Error> {
    let at = |address: &SlotAddress| {
        let row = slots.get(address.ciphertext as usize)?;
        row.get(address.slot as usize + offset).copied()
    };
    let expected = addresses
        .iter()
        .map(|a| a.ciphertext as usize + 1)
        .max()
        .unwrap_or(0);
    let missing = Error::CiphertextCount {
        found: slots.len(),
        expected,
    };
    addresses
        .iter()
        .map(at)
        .collect::<Option<Vec<f64>>>()
        .ok_or(missing)
}
