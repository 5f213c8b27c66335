use scuro_polyring::RingKind;

use super::*;

fn spec(log_n: u32, q_bits: &[u32], p_bits: &[u32]) -> ParameterSpec {
    ParameterSpec::new(log_n, q_bits, p_bits)
}

#[test]
fn the_2024_table_is_the_published_one() {
    let rows = [
        (11, [53, 36, 27]),
        (12, [106, 73, 56]),
        (13, [214, 147, 114]),
        (14, [430, 297, 230]),
        (15, [868, 597, 462]),
        (16, [1747, 1199, 929]),
        (17, [3523, 2411, 1866]),
    ];
    for (log_n, bounds) in rows {
        for (level, bound) in SecurityLevel::ALL.into_iter().zip(bounds) {
            assert_eq!(
                max_log_qp(log_n, level, SecurityTable::Guideline2024),
                Some(bound)
            );
        }
    }
    assert_eq!(
        max_log_qp(10, SecurityLevel::Bits192, SecurityTable::Guideline2024),
        None
    );
    assert_eq!(
        max_log_qp(18, SecurityLevel::Bits128, SecurityTable::Guideline2024),
        None
    );
}

#[test]
fn the_2018_table_is_laxer_and_ends_at_32768() {
    for (log_n, bounds) in [
        (13, [218, 152, 118]),
        (14, [438, 305, 237]),
        (15, [881, 611, 476]),
    ] {
        for (level, bound) in SecurityLevel::ALL.into_iter().zip(bounds) {
            assert_eq!(
                max_log_qp(log_n, level, SecurityTable::Standard2018),
                Some(bound)
            );
        }
    }
    assert_eq!(
        max_log_qp(16, SecurityLevel::Bits128, SecurityTable::Standard2018),
        None
    );
}

#[test]
fn special_primes_count_against_the_bound() {
    assert!(Parameters::new(spec(13, &[41; 4], &[50])).is_ok());
    let refused = Parameters::new(spec(13, &[41; 4], &[50, 30]));
    match refused {
        Err(Error::InsecureParameters {
            bound: 214,
            smallest_log_n: Some(14),
            found,
            ..
        }) => {
            assert!(found > 243.9 && found < 244.0, "{found}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn sets_between_the_tables_need_the_2018_table() {
    let mut between = spec(13, &[42; 4], &[50]);
    assert!(matches!(
        Parameters::new(between.clone()),
        Err(Error::InsecureParameters { .. })
    ));
    between.table = SecurityTable::Standard2018;
    let set = Parameters::new(between).unwrap();
    assert_eq!(
        (set.log_qp_bound(), set.security_table()),
        (218, SecurityTable::Standard2018)
    );
}

#[test]
fn every_level_and_degree_refuses_one_bit_more_than_its_bound() {
    for log_n in 12..=15 {
        for level in SecurityLevel::ALL {
            let bound = max_log_qp(log_n, level, SecurityTable::Guideline2024).unwrap();
            let with_bits = |bits: u32| {
                let count = bits.div_ceil(45);
                let mut q_bits: Vec<u32> = (0..count).map(|i| (bits + i) / count).collect();
                let p_bits = vec![q_bits.pop().unwrap()];
                Parameters::new(ParameterSpec {
                    level,
                    ..spec(log_n, &q_bits, &p_bits)
                })
            };
            assert!(
                with_bits(bound).is_ok(),
                "{log_n} {level}: {:?}",
                with_bits(bound).err()
            );
            let refused = with_bits(bound + 1);
            assert!(
                matches!(refused, Err(Error::InsecureParameters { .. })),
                "{log_n} {level}"
            );
        }
    }
}

#[test]
fn the_message_names_bound_table_and_fix() {
    let message = Parameters::new(spec(13, &[50; 4], &[50]))
        .unwrap_err()
        .to_string();
    for part in ["214", "128-bit", "2024", "N = 2^14", "250.00"] {
        assert!(message.contains(part), "{part} missing in: {message}");
    }
}

#[test]
fn primes_are_distinct_below_their_size_and_have_the_root() {
    for ring in [RingKind::Standard, RingKind::ConjugateInvariant] {
        let set = Parameters::new(ParameterSpec {
            ring,
            ..spec(14, &[45, 40, 40, 40], &[45])
        })
        .unwrap();
        let order = if ring == RingKind::Standard {
            2 * set.n()
        } else {
            4 * set.n()
        } as u64;
        let all: Vec<u64> = set.q().iter().chain(set.p()).copied().collect();
        for (i, &prime) in all.iter().enumerate() {
            assert_eq!(prime % order, 1);
            assert!(!all[..i].contains(&prime));
        }
        assert!(set.q()[0] < 1 << 45 && set.q()[0] > (1 << 45) - (1 << 27));
    }
}

#[test]
fn impossible_shapes_are_typed_errors() {
    let error = |spec| Parameters::new(spec).unwrap_err();
    assert!(matches!(
        error(spec(10, &[30], &[30])),
        Error::DegreeOutOfRange { found: 10, .. }
    ));
    assert!(matches!(
        error(spec(13, &[], &[30])),
        Error::PrimeCountOutOfRange { found: 0, .. }
    ));
    assert!(matches!(
        error(spec(13, &[30], &[])),
        Error::PrimeCountOutOfRange { found: 0, .. }
    ));
    assert!(matches!(
        error(spec(13, &[51], &[30])),
        Error::PrimeSizeOutOfRange { found: 51, .. }
    ));
    assert!(matches!(
        error(spec(13, &[12], &[30])),
        Error::PrimeSizeOutOfRange { found: 12, .. }
    ));
    let digits = ParameterSpec {
        digit_limbs: Some(3),
        ..spec(13, &[40, 40], &[40])
    };
    assert!(matches!(
        error(digits),
        Error::DigitSizeOutOfRange { found: 3, max: 2 }
    ));
    assert!(matches!(
        error(spec(16, &[20; 9], &[20])),
        Error::NotEnoughPrimes { bits: 20, .. }
    ));
}

#[test]
fn the_chooser_takes_the_smallest_degree() {
    let request = |level| ParameterRequest {
        ring: RingKind::ConjugateInvariant,
        q_bits: vec![50; 3],
        p_bits: vec![50],
        digit_limbs: None,
        min_slots: 100,
        level,
        table: SecurityTable::Guideline2024,
    };
    let log_n = |level| Parameters::choose(&request(level)).unwrap().log_n();
    assert_eq!(SecurityLevel::ALL.map(log_n), [13, 14, 14]);
    let wide = ParameterRequest {
        min_slots: 20_000,
        ..request(SecurityLevel::Bits128)
    };
    assert_eq!(Parameters::choose(&wide).unwrap().log_n(), 15);
    let huge = ParameterRequest {
        q_bits: vec![50; 40],
        ..request(SecurityLevel::Bits256)
    };
    assert!(matches!(
        Parameters::choose(&huge),
        Err(Error::NoDegreeFits { .. })
    ));
}

#[test]
fn the_digest_depends_on_everything_that_changes_the_computation() {
    let base = spec(13, &[41, 40, 40], &[50]);
    let digest = |spec: ParameterSpec| Parameters::new(spec).unwrap().digest();
    let same = ParameterSpec {
        level: SecurityLevel::Bits128,
        ..base.clone()
    };
    assert_eq!(digest(base.clone()), digest(same));
    let others = [
        ParameterSpec {
            ring: RingKind::Standard,
            ..base.clone()
        },
        ParameterSpec {
            log_n: 14,
            ..base.clone()
        },
        ParameterSpec {
            q_bits: vec![41, 40],
            ..base.clone()
        },
        ParameterSpec {
            p_bits: vec![49],
            ..base.clone()
        },
        ParameterSpec {
            digit_limbs: Some(2),
            ..base.clone()
        },
    ];
    for other in others {
        assert_ne!(digest(base.clone()), digest(other.clone()), "{other:?}");
    }
}

#[test]
fn sizes_tell_the_primes_of_a_set_before_it_is_made() {
    for ring in [RingKind::Standard, RingKind::ConjugateInvariant] {
        let spec = ParameterSpec {
            ring,
            ..spec(13, &[25, 38, 25, 25, 25], &[38])
        };
        let found = Parameters::new(spec).unwrap();
        let of_size = |bits| primes_of_size(ring, 13, bits);
        let small: Vec<u64> = of_size(25).take(4).collect();
        let wide: Vec<u64> = of_size(38).take(2).collect();
        assert_eq!(found.q(), [small[0], wide[0], small[1], small[2], small[3]]);
        assert_eq!(found.p(), [wide[1]]);
    }
    assert_eq!(primes_of_size(RingKind::Standard, 13, 14).count(), 0);
}
