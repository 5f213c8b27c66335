#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| scuro_fuzz::masks(bytes));
