//! Every target survives its seeds, cut and changed, without a fuzzer: `cargo run --example seeds`
//! first.

use std::path::Path;

use scuro_fuzz::TARGETS;

/// A small generator is enough to move bytes about.
struct Splitmix(u64);

impl Splitmix {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed >> 33) as usize % bound.max(1)
    }
}

#[test]
fn seeds_and_their_mutants_do_no_harm() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, run) in TARGETS {
        run(&[]);
        let Ok(folder) = std::fs::read_dir(corpus.join(name)) else {
            continue;
        };
        for entry in folder {
            let seed = std::fs::read(entry.expect("an entry").path()).expect("a readable seed");
            run(&seed);
            let mut random = Splitmix(seed.len() as u64);
            for _ in 0..50 {
                let mut mutant = seed[..random.below(seed.len() + 1)].to_vec();
                run(&mutant);
                mutant = seed.clone();
                for _ in 0..1 + random.below(4) {
                    let at = random.below(mutant.len().min(200));
                    if let Some(byte) = mutant.get_mut(at) {
                        *byte = random.below(256) as u8;
                    }
                }
                run(&mutant);
            }
        }
    }
}
