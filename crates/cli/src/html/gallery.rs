//! The images: what the owner sees, what the evaluator sees, and the answers.

use crate::report::{ImageResult, argmax, softmax};

use super::{charts, picture_address};

/// Side of the picture made of ciphertext bytes.
const NOISE_SIDE: usize = 28;

/// A card for each image.
pub(super) fn gallery(images: &[ImageResult]) -> String {
    let cards: String = images.iter().map(card).collect();
    format!("<div class=gallery>{cards}</div>")
}

fn card(image: &ImageResult) -> String {
    let (clear, encrypted) = (argmax(&image.clear), argmax(&image.encrypted));
    let agrees = clear == encrypted;
    let right = encrypted == image.label;
    let class = if agrees { "card ok" } else { "card off" };
    let remark = if right {
        "right"
    } else {
        "wrong, as true label shows"
    };
    format!(
        "<figure class='{class}'><div class=pair>{}{}</div>\
         <figcaption><div class=answers><span>true <b>{}</b></span>\
         <span>clear <b>{clear}</b></span>\
         <span class=encrypted title='{remark}'>encrypted <b>{encrypted}</b></span></div>{}\
         <div class=small>{:.1} ms encrypted</div></figcaption></figure>",
        picture(image),
        noise(image),
        image.label,
        charts::class_columns(&softmax(&image.encrypted), encrypted),
        image.evaluate_ms
    )
}

fn picture(image: &ImageResult) -> String {
    let address = picture_address(&image.shape, &image.pixels).unwrap_or_default();
    format!(
        "<img src='{address}' alt='image {}' title='what you see'>",
        image.index
    )
}

fn noise(image: &ImageResult) -> String {
    let needed = NOISE_SIDE * NOISE_SIDE;
    let Some(bytes) = image.ciphertext_head.get(..needed) else {
        return String::new();
    };
    let address = picture_address(&[1, NOISE_SIDE, NOISE_SIDE], bytes).unwrap_or_default();
    format!("<img src='{address}' alt='ciphertext bytes' title='what the evaluator sees'>")
}
