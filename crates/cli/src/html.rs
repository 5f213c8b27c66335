//! One self-contained page: no network, no scripts; light and dark by the reader's setting.

mod bench;
mod charts;
mod ensemble;
mod gallery;
mod page;
mod score;
mod sections;
mod tables;

pub(crate) use bench::bench_page;
pub(crate) use ensemble::ensemble_page;
pub(crate) use page::run_page;
pub(crate) use score::score_page;
pub(crate) use tables::tables_page;

/// Text made safe between tags and in quoted attributes.
pub(crate) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

/// A table; cells are HTML already.
fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let cell = |tag: &str, text: &str| format!("<{tag}>{text}</{tag}>");
    let head: String = heads.iter().map(|h| cell("th", h)).collect();
    let row = |cells: &Vec<String>| {
        format!(
            "<tr>{}</tr>",
            cells.iter().map(|c| cell("td", c)).collect::<String>()
        )
    };
    let body: String = rows.iter().map(row).collect();
    format!(
        "<div class=scroll><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
}

/// A picture as a `data:` address: grey or RGB planes of bytes, PNG inside.
fn picture_address(shape: &[usize], pixels: &[u8]) -> Option<String> {
    let [channels, height, width] = *shape else {
        return None;
    };
    let plane = height.checked_mul(width)?;
    if pixels.len() != plane.checked_mul(channels)? || !matches!(channels, 1 | 3) {
        return None;
    }
    let value = |i: usize, c: usize| pixels[c.min(channels - 1) * plane + i];
    let rgb: Vec<u8> = (0..plane)
        .flat_map(|i| [0, 1, 2].map(|c| value(i, c)))
        .collect();
    let picture = image::RgbImage::from_raw(width as u32, height as u32, rgb)?;
    let mut png = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut png, image::ImageFormat::Png).ok()?;
    Some(format!("data:image/png;base64,{}", base64(png.get_ref())))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let group = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            let digit = DIGITS[(group >> (18 - 6 * i) & 63) as usize];
            text.push(if i <= chunk.len() {
                char::from(digit)
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_follows_rfc_4648() {
        let cases = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ];
        for (bytes, text) in cases {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn names_from_files_cannot_become_markup() {
        assert_eq!(escape("<b a='1'>&"), "&lt;b a=&#39;1&#39;&gt;&amp;");
    }
}
