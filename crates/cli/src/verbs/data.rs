//! `scuro data list | fetch | show | generate`

use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::{Compression, write::GzEncoder};
use scuro_nn::data::Dataset;
use serde_json::json;

use crate::context::Context;
use crate::data::{self, catalog};
use crate::errors::Failure;
use crate::output::Reply;
use crate::table::Table;
use crate::terminal::Picture;
use crate::{files, inputs, style};

/// Columns of a picture in `scuro data show`.
const PICTURE_COLUMNS: usize = 28;

/// Arguments of `scuro data`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// What there is, and where it was found.
    List,
    /// Download from the official mirrors into the cache and check SHA-256 sums.
    Fetch {
        /// Data set.
        name: String,
        /// Another mirror: the folder that holds the files.
        #[arg(long, value_name = "URL")]
        mirror: Option<String>,
        /// Folder to put it in instead of the cache.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Draw images with their labels.
    Show {
        /// Data set with its part: `mnist:test`, `generated`.
        name: String,
        /// First image.
        #[arg(long, default_value_t = 0)]
        index: usize,
        /// Number of images.
        #[arg(long, default_value_t = 5)]
        count: usize,
    },
    /// Draw digits by strokes with random distortion, in the format of MNIST.
    Generate {
        /// Number of digits.
        #[arg(long, default_value_t = 10_000)]
        count: usize,
        /// Part: `train` or `test` (they never share a digit).
        #[arg(long, default_value = "train")]
        split: String,
        /// Folder for the two files.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

/// Runs the action.
pub(crate) fn run(arguments: Arguments, context: &Context) -> Result<Reply, Failure> {
    match arguments.action {
        Action::List => Ok(list(context)),
        Action::Fetch { name, mirror, out } => fetch(context, &name, mirror.as_deref(), out),
        Action::Show { name, index, count } => show(context, &name, index, count),
        Action::Generate { count, split, out } => generate(context, count, &split, &out),
    }
}

fn list(context: &Context) -> Reply {
    let mut table = Table::new(&["name", "found in", "about"]);
    let mut rows = Vec::new();
    for set in catalog::SETS {
        let place = data::locate(context, set.name);
        let shown = place
            .as_ref()
            .map_or("–".to_string(), |folder| folder.display().to_string());
        table.row([set.name, &shown, set.about]);
        rows.push(json!({ "name": set.name, "folder": place, "about": set.about }));
    }
    let about = "digits drawn in code by strokes with affine and elastic distortion";
    table.row(["generated", "always here", about]);
    rows.push(json!({ "name": "generated", "folder": null, "about": about }));
    let data = json!({ "sets": rows, "search_path": data::search_path(context) });
    Reply::new(data, table.render(context.style)).with_rows(rows)
}

fn fetch(
    context: &Context,
    name: &str,
    mirror: Option<&str>,
    out: Option<PathBuf>,
) -> Result<Reply, Failure> {
    let set = catalog::find(name).ok_or_else(|| unknown(name))?;
    let root = out.or_else(data::cache_folder).ok_or_else(|| {
        Failure::bad_input("data.no-cache", "no cache folder: HOME is not set")
            .hint("pass --out DIR")
    })?;
    let folder = root.join(set.name);
    data::fetch::fetch(context, set, mirror, &folder)?;
    let data = json!({ "name": set.name, "folder": folder });
    Ok(Reply::new(
        data,
        format!("{} is in {}\n", set.name, folder.display()),
    ))
}

fn unknown(name: &str) -> Failure {
    let known: Vec<&str> = catalog::SETS.iter().map(|set| set.name).collect();
    Failure::bad_input(
        "data.unknown",
        format!("no data set `{name}` can be fetched"),
    )
    .hint(format!("there are: {}", known.join(", ")))
}

fn show(context: &Context, name: &str, index: usize, count: usize) -> Result<Reply, Failure> {
    let data = inputs::load(context, name, Some(index.saturating_add(count)))?;
    let range = index.min(data.len())..data.len();
    let rows: Vec<_> = range
        .clone()
        .map(|i| json!({ "index": i, "label": data.labels[i], "class": class(&data, i) }))
        .collect();
    let cards: Vec<Vec<String>> = range.map(|i| card(context, &data, i)).collect();
    let human = side_by_side(&cards, PICTURE_COLUMNS + 3);
    Ok(Reply::new(json!({ "name": name, "images": rows }), human).with_rows(rows))
}

fn class(data: &Dataset, index: usize) -> &str {
    data.classes
        .get(usize::from(data.labels[index]))
        .map_or("?", String::as_str)
}

fn card(context: &Context, data: &Dataset, index: usize) -> Vec<String> {
    let values: Vec<f32> = data
        .image(index)
        .iter()
        .map(|&p| f32::from(p) / 255.0)
        .collect();
    let picture = Picture::from_planes(&data.shape, &values);
    let mut lines = vec![format!("#{index} · {}", class(data, index))];
    lines.extend(picture.map_or(Vec::new(), |p| {
        p.fitted(PICTURE_COLUMNS).lines(context.style)
    }));
    lines
}

/// Cards of equal width in rows as wide as the terminal.
pub(crate) fn side_by_side(cards: &[Vec<String>], width: usize) -> String {
    let per_row = (style::terminal_columns() / width).max(1);
    let mut text = String::new();
    for row in cards.chunks(per_row) {
        let height = row.iter().map(Vec::len).max().unwrap_or(0);
        for y in 0..height {
            let mut line = String::new();
            for card in row {
                let cell = card.get(y).map_or("", String::as_str);
                line.push_str(cell);
                line.push_str(&" ".repeat(width.saturating_sub(style::visible_width(cell))));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text.push('\n');
    }
    text
}

fn generate(context: &Context, count: usize, split: &str, out: &Path) -> Result<Reply, Failure> {
    let data = inputs::load(context, &format!("generated:{split}"), Some(count))?;
    let prefix = if split == "test" { "t10k" } else { "train" };
    let [channels, height, width] = data.shape;
    let extents = [data.len(), height * channels, width].map(|extent| extent as u32);
    let images = out.join(format!("{prefix}-images-idx3-ubyte.gz"));
    let labels = out.join(format!("{prefix}-labels-idx1-ubyte.gz"));
    files::write(&images, &packed_idx(0x0803, &extents, &data.images)?)?;
    files::write(&labels, &packed_idx(0x0801, &extents[..1], &data.labels)?)?;
    let human = format!("{} digits in {}\n", data.len(), out.display());
    Ok(Reply::new(
        json!({ "count": data.len(), "images": images, "labels": labels }),
        human,
    ))
}

fn packed_idx(magic: u32, extents: &[u32], body: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::default());
    let header: Vec<u8> = std::iter::once(&magic)
        .chain(extents)
        .flat_map(|word| word.to_be_bytes())
        .collect();
    let written = packer
        .write_all(&header)
        .and_then(|()| packer.write_all(body));
    written
        .and_then(|()| packer.finish())
        .map_err(|error| Failure::internal(format!("packing in memory failed: {error}")))
}
