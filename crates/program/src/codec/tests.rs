use crate::*;

const SLOTS: usize = 1 << 10;

fn sample() -> Program {
    Program {
        name: "sample".into(),
        model_digest: [7; 32],
        notes: vec![("labels".into(), "0,1".into())],
        parameters: ParameterPlan {
            scheme: Scheme::Ckks,
            ring: Ring::ConjugateInvariant,
            log_n: 10,
            q_bits: vec![40, 40],
            p_bits: vec![50],
            security_bits: 128,
            table: SecurityTable::Guideline2024,
        },
        packing: Packing::SingleImage,
        weights: Weights::Plain,
        input: InputSpec {
            shape: vec![2],
            examples: 1,
            gather: Gather::Slots(vec![(0..SLOTS as u32).map(|s| s % 2).collect()]),
            level: 1,
            traced: None,
            scale_log2: 22.0,
            minimum: 0.0,
            maximum: 1.0,
        },
        steps: sample_steps(),
        result: ValueId(6),
        output: OutputSpec {
            shape: vec![1],
            addresses: vec![SlotAddress {
                ciphertext: 0,
                slot: 3,
            }],
            factor: 0.75,
            post: PostOperation::Softmax { axis: 0 },
        },
        keys: KeyManifest {
            relinearize: Some(1),
            galois: vec![
                GaloisStep { step: 1, level: 1 },
                GaloisStep { step: 8, level: 1 },
            ],
            relinearized: vec![GaloisStep { step: 8, level: 1 }],
            public: true,
        },
    }
}

fn flood(bits: u32) -> Flood {
    let decryptions = 1000;
    Flood {
        flooding: Flooding::Relaxed { bits, decryptions },
        bound_log2: 21.5,
    }
}

fn sample_steps() -> Vec<Step> {
    let mut diagonal = vec![0.0; SLOTS];
    diagonal[3] = 1.5;
    diagonal[100..140].fill(-0.25);
    let estimate = |level| Estimate {
        level,
        scale_log2: 40.0,
        max_abs: 2.0,
        ..Estimate::default()
    };
    let linear = Linear {
        outputs: 1,
        weight_scale_log2: 15.0,
        diagonals: vec![Diagonal {
            output: 0,
            operand: 0,
            ciphertext: 0,
            giant: 8,
            baby: 1,
            values: SlotVector::from_dense(&diagonal),
        }],
    };
    let step = |input, operation, level| Step {
        layer: "fc".into(),
        inputs: vec![ValueId(input)],
        operation,
        estimate: estimate(level),
    };
    vec![
        step(0, Operation::Linear(linear), 1),
        step(1, Operation::Square, 1),
        step(2, Operation::Relinearize, 1),
        step(3, Operation::Rescale, 0),
        step(
            4,
            Operation::Fold {
                stages: vec![vec![1]],
            },
            0,
        ),
        step(5, Operation::Flood(flood(40)), 0),
    ]
}

#[test]
fn a_program_survives_its_bytes() {
    let program = sample();
    assert_eq!(Program::from_bytes(&program.to_bytes()), Ok(program));
}

#[test]
fn every_scheme_has_bytes_of_its_own() {
    let (bgv, bfv) = (
        Scheme::Bgv { plain_bits: 33 },
        Scheme::Bfv { plain_bits: 33 },
    );
    let mut digests = vec![sample().digest()];
    for scheme in [bgv, bfv] {
        let mut program = sample();
        program.parameters.scheme = scheme;
        let read = Program::from_bytes(&program.to_bytes()).unwrap();
        assert_eq!(read.parameters.scheme, scheme);
        assert_eq!(scheme.plain_bits(), Some(33));
        assert!(!digests.contains(&program.digest()));
        digests.push(program.digest());
    }
    let mut program = sample();
    program.parameters.scheme = Scheme::Bfv { plain_bits: 47 };
    let refused = Program::from_bytes(&program.to_bytes()).unwrap_err();
    assert!(refused.to_string().contains("plaintext prime"), "{refused}");
}

#[test]
fn encrypted_weights_of_a_scale_invariant_program_are_refused() {
    let mut program = sample();
    program.weights = Weights::Private;
    program.validate().unwrap();
    program.parameters.scheme = Scheme::Bfv { plain_bits: 33 };
    let refused = program.validate().unwrap_err();
    let scheme = "BFV";
    assert_eq!(refused, ProgramError::EncryptedWeights { scheme });
}

#[test]
fn the_digest_ends_the_file_and_depends_on_every_weight() {
    let mut program = sample();
    let bytes = program.to_bytes();
    assert_eq!(bytes[bytes.len() - 32..], program.digest());
    let before = program.digest();
    if let Operation::Linear(linear) = &mut program.steps[0].operation {
        linear.diagonals[0].values.runs[0].values[0] += 0.5;
    }
    assert_ne!(program.digest(), before);
}

#[test]
fn every_truncation_and_every_flipped_byte_is_an_error() {
    let bytes = sample().to_bytes();
    for end in 0..bytes.len() {
        assert!(Program::from_bytes(&bytes[..end]).is_err(), "cut at {end}");
    }
    for at in (0..bytes.len()).step_by(7) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x41;
        assert!(Program::from_bytes(&damaged).is_err(), "byte {at}");
    }
}

#[test]
fn damaged_bodies_with_a_right_digest_are_refused_or_have_one_encoding() {
    let bytes = sample().to_bytes();
    let body = bytes.len() - 32;
    for at in 10..body {
        for value in [0, 1, 0x7f, 0xff] {
            let mut damaged = bytes[..body].to_vec();
            damaged[at] = value;
            let digest = blake3::hash(&damaged);
            damaged.extend_from_slice(digest.as_bytes());
            if let Ok(program) = Program::from_bytes(&damaged) {
                assert_eq!(program.to_bytes(), damaged, "byte {at}");
            }
        }
    }
}

#[test]
fn headers_are_named_in_errors() {
    // Programs of version 3 say nothing of a factor of the outputs.
    for found in [FORMAT_VERSION - 1, FORMAT_VERSION + 1] {
        let bytes = sample().to_bytes();
        let mut other = bytes[..bytes.len() - 32].to_vec();
        other[8] = found as u8;
        other.extend_from_slice(blake3::hash(&other).as_bytes());
        let expected = FORMAT_VERSION;
        let wrong = ProgramError::WrongVersion { found, expected };
        assert_eq!(Program::from_bytes(&other), Err(wrong));
    }
    let found = b"PK\x03\x04abcd".to_vec();
    assert_eq!(
        Program::from_bytes(&found),
        Err(ProgramError::WrongMagic { found })
    );
}

/// The sample for three examples a query.
fn sample_of_three() -> Program {
    let mut program = sample();
    program.input.examples = 3;
    program.input.gather = Gather::Slots(vec![(0..SLOTS as u32).map(|s| s % 6).collect()]);
    let address = |slot| SlotAddress {
        ciphertext: 0,
        slot,
    };
    program.output.addresses = (3..6).map(address).collect();
    program
}

#[test]
fn a_program_for_several_examples_survives_its_bytes() {
    let program = sample_of_three();
    assert_eq!(Program::from_bytes(&program.to_bytes()), Ok(program));
}

#[test]
fn examples_that_do_not_fit_the_query_or_the_reply_are_refused() {
    let refused = |change: &dyn Fn(&mut Program), what: &str| {
        let mut program = sample_of_three();
        change(&mut program);
        let error = Program::from_bytes(&program.to_bytes()).unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
    };
    refused(&|p| p.input.examples = 0, "no example");
    refused(
        &|p| p.input.examples = SLOTS as u32 + 1,
        "examples of a query",
    );
    refused(&|p| p.input.examples = 2, "query element");
    refused(&|p| p.input.examples = 4, "output addresses");
    refused(&|p| p.output.addresses.truncate(2), "output addresses");
    refused(&|p| p.output.factor = 0.0, "factor of the outputs");
    refused(&|p| p.output.factor = f64::NAN, "factor of the outputs");
    refused(&|p| p.input.gather = Gather::Batch, "examples of a batch");
}

#[test]
fn missing_keys_wrong_levels_and_three_part_operands_are_errors() {
    let mut program = sample();
    program.keys.galois.remove(1);
    assert!(matches!(
        program.validate(),
        Err(ProgramError::MissingKey { step: 0, .. })
    ));
    let mut program = sample();
    program.steps[3].estimate.level = 1;
    assert!(matches!(
        program.validate(),
        Err(ProgramError::WrongLevel { step: 3, .. })
    ));
    let mut program = sample();
    program.steps[4].inputs = vec![ValueId(2)];
    assert!(matches!(
        program.validate(),
        Err(ProgramError::NeedsRelinearize { step: 4, .. })
    ));
    let mut program = sample();
    program.steps[1].inputs = vec![ValueId(2)];
    assert!(matches!(
        program.validate(),
        Err(ProgramError::OutOfRange { step: 1, .. })
    ));
}

#[test]
fn a_flooding_makes_the_reply_and_needs_the_public_key() {
    let refused = |change: &dyn Fn(&mut Program)| {
        let mut program = sample();
        change(&mut program);
        program.validate().unwrap_err()
    };
    assert_eq!(sample().flood(), Some(&flood(40)));
    let inside = refused(&|program| program.result = ValueId(5));
    assert_eq!(inside, ProgramError::FloodInside { step: 5 });
    let keyless = refused(&|program| program.keys.public = false);
    let (what, level) = (KeyName::Public, 0);
    assert_eq!(
        keyless,
        ProgramError::MissingKey {
            step: 5,
            what,
            level
        }
    );
    for bits in [0, 129] {
        let found = refused(&|program| program.steps[5].operation = Operation::Flood(flood(bits)));
        assert!(
            matches!(found, ProgramError::OutOfRange { step: 5, .. }),
            "{found}"
        );
    }
    for decryptions in [0, LIMIT_DECRYPTIONS + 1] {
        let found = refused(&|program| {
            let flooding = Flooding::Relaxed {
                bits: 40,
                decryptions,
            };
            program.steps[5].operation = Operation::Flood(Flood {
                flooding,
                ..flood(40)
            });
        });
        assert!(
            matches!(found, ProgramError::OutOfRange { step: 5, .. }),
            "{found}"
        );
    }
}
