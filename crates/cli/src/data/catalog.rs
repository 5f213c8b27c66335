//! The data sets that Scuro knows: files, checksums, official mirrors.
// tidy: catalogue

use std::path::Path;

/// A file of a data set.
#[derive(Debug)]
pub(crate) struct SetFile {
    /// Name on disk.
    pub(crate) name: &'static str,
    /// SHA-256 of that file.
    pub(crate) sha256: &'static str,
}

/// How the mirrors hand a data set out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Package {
    /// Each file by its name.
    Files,
    /// One `.tar.gz` holding all of them.
    TarGz(&'static str),
}

/// A data set.
#[derive(Debug)]
pub(crate) struct DataSet {
    /// Name in `--data NAME`.
    pub(crate) name: &'static str,
    /// One line for people.
    pub(crate) about: &'static str,
    /// Folders to download from, tried in order.
    pub(crate) mirrors: &'static [&'static str],
    /// Form of the download.
    pub(crate) package: Package,
    /// Files after fetching.
    pub(crate) files: &'static [SetFile],
}

/// All data sets that can be fetched.
pub(crate) const SETS: &[DataSet] = &[
    DataSet {
        name: "mnist",
        about: "handwritten digits, 28x28 grey, 60000 + 10000 (LeCun, Cortes, Burges)",
        mirrors: &[
            "https://ossci-datasets.s3.amazonaws.com/mnist",
            "https://storage.googleapis.com/cvdf-datasets/mnist",
        ],
        package: Package::Files,
        files: &[
            SetFile {
                name: "train-images-idx3-ubyte.gz",
                sha256: "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            },
            SetFile {
                name: "train-labels-idx1-ubyte.gz",
                sha256: "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            },
            SetFile {
                name: "t10k-images-idx3-ubyte.gz",
                sha256: "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            },
            SetFile {
                name: "t10k-labels-idx1-ubyte.gz",
                sha256: "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            },
        ],
    },
    DataSet {
        name: "cifar10",
        about: "photographs of ten kinds, 32x32 RGB, 50000 + 10000 (Krizhevsky, Nair, Hinton)",
        mirrors: &["https://www.cs.toronto.edu/~kriz"],
        package: Package::TarGz("cifar-10-binary.tar.gz"),
        files: &[
            SetFile {
                name: "data_batch_1.bin",
                sha256: "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
            },
            SetFile {
                name: "data_batch_2.bin",
                sha256: "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
            },
            SetFile {
                name: "data_batch_3.bin",
                sha256: "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
            },
            SetFile {
                name: "data_batch_4.bin",
                sha256: "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
            },
            SetFile {
                name: "data_batch_5.bin",
                sha256: "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
            },
            SetFile {
                name: "test_batch.bin",
                sha256: "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
            },
        ],
    },
];

/// The data set of this name.
pub(crate) fn find(name: &str) -> Option<&'static DataSet> {
    SETS.iter().find(|set| set.name == name)
}

/// Whether `folder` holds the files of `name`, as they are or packed again.
pub(crate) fn is_present(folder: &Path, name: &str) -> bool {
    let held = |file: &str| {
        ["", ".xz", ".gz"]
            .iter()
            .any(|end| folder.join(format!("{file}{end}")).is_file())
    };
    let known = |set: &DataSet| {
        set.files
            .iter()
            .all(|file| held(file.name) || held(file.name.trim_end_matches(".gz")))
    };
    find(name).is_some_and(known)
}
