//! Brokers that must not be entered like that: vault and device refuse alike, and make nothing.

use std::os::unix::fs::PermissionsExt;

use super::support::Desk;

/// A private file, or one that others can read.
fn write(desk: &Desk, name: &str, bytes: &[u8], mode: u32) {
    desk.write(name, bytes);
    let mode = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(desk.path(name), mode).expect("mode");
}

/// Words after the verb, exit code, error code.
type Case = (&'static [&'static str], i32, &'static str);

const CASES: &[Case] = &[
    (&["--mqtt", "broker/t"], 4, "mqtt.address"),
    (&["--mqtt", "mqtt://broker"], 4, "mqtt.address"),
    (&["--mqtt", "mqtt://broker/a/#/b"], 4, "mqtt.address"),
    (&["--mqtt", "mqtt://u:hidden@broker/t"], 4, "mqtt.address"),
    (&["--mqtt", "mqtt://u@localhost/t"], 4, "mqtt.address"),
    (&["--mqtt", "mqtts://broker/t"], 4, "mqtt.address"),
    (
        &["--mqtt", "mqtt://u@b/t", "--mqtt-password-file", "private"],
        4,
        "mqtt.address",
    ),
    (
        &["--mqtt", "mqtt://b/t", "--mqtt-password-file", "readable"],
        6,
        "keys.readable-by-others",
    ),
    (
        &["--mqtt", "mqtt://b/t", "--mqtt-password-file", "absent"],
        4,
        "file.not-found",
    ),
    (
        &["--mqtt", "mqtt://b/t", "--mqtt-password-file", "bytes"],
        4,
        "mqtt.password",
    ),
    (
        &["--mqtt", "mqtts://b/t", "--mqtt-ca", "absent"],
        4,
        "file.not-found",
    ),
    (
        &["--mqtt", "mqtts://b/t", "--mqtt-ca", "private"],
        6,
        "peer.certificate",
    ),
    (
        &["--mqtt", "mqtts://b/t", "--mqtt-certificate", "private"],
        4,
        "arguments.invalid",
    ),
    (&["--mqtt-ca", "private"], 4, "arguments.invalid"),
    (&["--mqtt-password-file", "private"], 4, "arguments.invalid"),
    (&["--mqtt-frames", "raw"], 4, "arguments.invalid"),
];

#[test]
fn vault_and_device_refuse_the_same_brokers_before_anything_is_made() {
    let desk = Desk::new();
    write(&desk, "private", b"hidden\n", 0o600);
    write(&desk, "readable", b"hidden\n", 0o644);
    write(&desk, "bytes", &[0xff, 0xfe], 0o600);
    let vault = ["vault", "serve", "made"];
    let device = ["edge", "serve", "made", "--bundle", "nowhere"];
    for verb in [&vault[..], &device] {
        for (words, exit, code) in CASES {
            let words = [verb, words].concat();
            let expected = (*exit, (*code).to_string());
            assert_eq!(desk.failure(&words), expected, "{words:?}");
            let shown = desk.run(&words);
            let (out, err) = (shown.stdout, shown.stderr);
            assert!(!out.contains("hidden") && !err.contains("hidden"), "{err}");
        }
    }
    let wild = ["--mqtt", "mqtt://broker/results/#"];
    let refused = desk.failure(&[&vault[..], &wild].concat());
    assert_eq!(refused, (4, "mqtt.address".into()));
    assert!(!desk.path("made").exists());
}
