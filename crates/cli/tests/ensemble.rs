//! An ensemble, each part its own process: a picture goes in, one encrypted answer comes back.

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use scuro_testkit::process::Victim;
use serde_json::{Value, json};
use support::{Desk, draw_seven};

const NETWORK: &[u8] = include_bytes!("../assets/demo-cryptonets.onnx");
/// Longest wait for a service: a busy machine of two cores.
const PATIENCE: Duration = Duration::from_secs(240);

/// An address of loopback that nobody has.
fn address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address")
}

/// A service in the desk's folder.
fn service(desk: &Desk, words: &[&str]) -> Victim {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scuro"));
    command.args(words).args(["--threads", "1", "--quiet"]);
    command.current_dir(desk.path(""));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    Victim::start(&mut command)
}

/// The answer to a query, as soon as `done` likes it.
fn ask(desk: &Desk, coordinator: &str, done: impl Fn(&Value) -> bool) -> Value {
    let start = Instant::now();
    let words = [
        "ensemble",
        "query",
        "seven.png",
        "--coordinator",
        coordinator,
    ];
    loop {
        let outcome = desk.run(&[&words[..], &["--keys", "keys", "--format", "json"]].concat());
        let envelope = outcome.envelope();
        if done(&envelope) {
            return envelope;
        }
        assert!(start.elapsed() < PATIENCE, "{envelope}");
        std::thread::sleep(Duration::from_millis(300));
    }
}

fn answered(envelope: &Value) -> usize {
    let holders = &envelope["data"]["answered"];
    holders.as_array().map_or(0, Vec::len)
}

/// The way to a holder, which is killed when it is about to release what it has offered, if it
/// should.
fn deadly(holder: Weak<Mutex<Victim>>, real: String, should: Arc<AtomicBool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect(&real) else {
                continue;
            };
            let ends = (client.try_clone(), server.try_clone());
            let (Ok(client_end), Ok(server_end)) = ends else {
                continue;
            };
            let (holder, should) = (Weak::clone(&holder), Arc::clone(&should));
            std::thread::spawn(move || pass_on(server_end, client_end, |_| {}));
            std::thread::spawn(move || {
                pass_on(client, server, |bytes| {
                    let release = b"POST /v1/masks/release";
                    let asked = bytes.windows(release.len()).any(|text| text == release);
                    let holder = holder.upgrade().filter(|_| should.load(Ordering::SeqCst));
                    if let Some(holder) = holder.filter(|_| asked) {
                        holder.lock().expect("not poisoned").kill();
                    }
                });
            });
        }
    });
    address
}

/// What one end says, to the other, until either is gone.
fn pass_on(mut from: TcpStream, mut to: TcpStream, see: impl Fn(&[u8])) {
    let mut bytes = vec![0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        see(&bytes[..count]);
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// Compiles the network on images that need no files.
const COMPILE: [&str; 6] = [
    "compile",
    "model.onnx",
    "--data",
    "generated",
    "--calibration",
    "32",
];

#[test]
fn a_picture_is_predicted_by_holders_that_see_nothing_and_by_the_rest_when_some_are_killed() {
    let desk = Desk::new();
    desk.write("model.onnx", NETWORK);
    draw_seven(&desk.path("seven.png"));
    let first = [&COMPILE[..], &["--ensemble", "-o", "a.scuro"]].concat();
    desk.data(&first);
    desk.data(&[&COMPILE[..], &["--contract", "a.scuro", "-o", "b.scuro"]].concat());
    let clear = [
        "predict",
        "seven.png",
        "--model",
        "a.scuro",
        "--mode",
        "clear",
    ];
    let expected = desk.data(&clear)["predictions"][0]["label"].clone();

    let addresses: Vec<String> = (0..3).map(|_| address().to_string()).collect();
    let models = ["a.scuro", "b.scuro", "b.scuro"];
    let serve = |(listen, model): (&String, &&str)| {
        let words = ["holder", "serve", "--model", model, "--listen", listen];
        service(&desk, &words)
    };
    let mut holders: Vec<Victim> = addresses.iter().zip(&models).map(serve).collect();
    let (hub, list) = (address().to_string(), addresses.join(","));
    let words = ["coordinator", "serve", "--holders", &list, "--listen", &hub];
    let _coordinator = service(&desk, &words);

    let reply = ask(&desk, &hub, |envelope| answered(envelope) == 3);
    let data = &reply["data"];
    assert_eq!(data["label"], expected);
    assert_eq!(
        (&data["rule"], &data["left_out"]),
        (&json!("mean"), &json!([]))
    );
    assert_eq!(
        desk.names("keys"),
        ["evaluation.keys", "public.key", "secret.key", "user.key"]
    );
    for name in desk.names("keys") {
        let metadata = std::fs::metadata(desk.path("keys").join(&name)).expect("a file");
        let others = metadata.permissions().mode() & 0o077;
        assert_eq!(others == 0, name != "public.key", "{name}: {others:o}");
    }
    let keys = desk.read("keys/secret.key");

    holders.pop().expect("a holder").kill();
    let reply = ask(&desk, &hub, |envelope| answered(envelope) == 2);
    assert_eq!(reply["data"]["label"], expected);
    assert_eq!(reply["data"]["left_out"][0]["holder"], addresses[2]);
    assert_eq!(desk.read("keys/secret.key"), keys);

    holders.pop().expect("a holder").kill();
    let refused = ask(&desk, &hub, |envelope| envelope["status"] == "error");
    assert_eq!(refused["error_code"], "ensemble.quorum");
    assert_eq!(refused["exit_code"], 2);
    let message = refused["message"].as_str().expect("a message");
    assert!(
        message.contains(&addresses[1]) && message.contains(&addresses[2]),
        "{message}"
    );
}

#[test]
fn a_holder_that_cannot_read_its_weights_answers_the_user_that_they_are_for() {
    let desk = Desk::new();
    desk.write("model.onnx", NETWORK);
    draw_seven(&desk.path("seven.png"));
    let first = words("--ensemble --encrypt all -o a.scuro");
    desk.data(&[&COMPILE[..], &first].concat());
    desk.data(&words("ensemble contract a.scuro -o contract.scuro"));
    desk.data(&words("keygen contract.scuro --out keys"));
    let protect = [&["protect"], &COMPILE[1..], &words("-o protected")].concat();
    let member = [&protect[..], &words("--contract contract.scuro")].concat();
    assert_eq!(desk.failure(&member), (4, "ensemble.user".into()));
    let user = words("--public-key keys/public.key");
    let in_clear = [&member[..], &user, &words("--encrypt last")].concat();
    assert_eq!(desk.failure(&in_clear), (4, "ensemble.network".into()));
    desk.data(&[&member[..], &user].concat());
    let found = ["device", "owner"].map(|folder| desk.names(&format!("protected/{folder}")));
    assert_eq!(found[0], ["program.scuro", "weights.ct"]);
    assert_eq!(found[1], ["private.scuro"]);

    let clear = words("predict seven.png --mode clear --model protected/owner/private.scuro");
    let expected = desk.data(&clear)["predictions"][0]["label"].clone();
    let listen = address().to_string();
    let serve = format!("holder serve --model protected/device/program.scuro --listen {listen}");
    let weights = words("--weights protected/device/weights.ct");
    let _holder = service(&desk, &[&words(&serve)[..], &weights].concat());
    let reply = ask(&desk, &listen, |envelope| envelope["status"] == "ok");
    assert_eq!(reply["data"]["label"], expected);
    let query = format!("ensemble query seven.png --keys other --coordinator {listen}");
    let (exit, code) = desk.failure(&words(&query));
    assert_eq!((exit, &*code), (6, "keys.other-weights"));
}

/// Arguments that make integers of the network quickly: what answers are worth is tested elsewhere.
const EXACT: [&str; 6] = [
    "--scheme",
    "bfv",
    "--agreement",
    "0",
    "--flooding",
    "estimated:20:1",
];

#[test]
fn an_ensemble_in_integers_answers_what_its_programs_compute_in_clear() {
    let desk = Desk::new();
    desk.write("model.onnx", NETWORK);
    draw_seven(&desk.path("seven.png"));
    let first = ["--ensemble", "-o", "a.scuro"];
    desk.data(&[&COMPILE[..], &EXACT, &first].concat());
    let contract = ["ensemble", "contract", "a.scuro", "-o", "contract.scuro"];
    desk.data(&contract);
    let joins = ["--contract", "contract.scuro", "-o", "b.scuro"];
    desk.data(&[&COMPILE[..], &["--agreement", "0"], &joins].concat());
    let other = [&COMPILE[..], &["--scheme", "ckks"], &joins].concat();
    assert_eq!(desk.failure(&other), (4, "ensemble.contract".into()));
    let of_bgv = [&COMPILE[..], &["--scheme", "bgv"], &first].concat();
    assert_eq!(desk.failure(&of_bgv), (4, "ensemble.network".into()));

    let clear = |model| {
        let words = ["predict", "seven.png", "--model", model, "--mode", "clear"];
        desk.data(&words)["predictions"][0].clone()
    };
    let (a, b) = (clear("a.scuro"), clear("b.scuro"));
    assert_eq!(a["label"], b["label"]);
    let addresses = [address().to_string(), address().to_string()];
    let models = ["a.scuro", "b.scuro"];
    let serve = |(listen, model): (&String, &&str)| {
        let words = ["holder", "serve", "--model", model, "--listen", listen];
        service(&desk, &words)
    };
    let _holders: Vec<Victim> = addresses.iter().zip(&models).map(serve).collect();
    let (hub, list) = (address().to_string(), addresses.join(","));
    let words = ["coordinator", "serve", "--holders", &list, "--listen", &hub];
    let _coordinator = service(&desk, &words);
    let reply = ask(&desk, &hub, |envelope| answered(envelope) == 2);
    let data = &reply["data"];
    assert_eq!(
        (&data["label"], &data["rule"]),
        (&a["label"], &json!("mean"))
    );
}

#[test]
fn rules_of_an_ensemble_are_scored_in_integers_and_those_without_room_are_left_out() {
    let desk = Desk::new();
    let train = ["ensemble", "train", "--holders", "2", "--data", "generated"];
    let little = ["--limit", "120", "--epochs", "1"];
    let rest = ["--held-out", "0.2", "--out", "two"];
    desk.data(&[&train[..], &little, &rest].concat());
    let evaluate = ["ensemble", "evaluate", "two", "--data", "generated"];
    let how = ["--limit", "2", "--mode", "encrypted", "--calibration", "32"];
    let data = desk.data(&[&evaluate[..], &how, &EXACT].concat());
    assert_eq!(
        rules_of(&data),
        ["mean", "weighted", "log-opinion", "majority"]
    );
    let mean = &data["splits"][0]["rules"][0];
    assert!(mean["clear"].is_number() && mean["agreement"].is_number());
    let none = [&evaluate[..], &how, &EXACT, &["--rules", "soft-vote"]].concat();
    assert_eq!(desk.failure(&none), (4, "ensemble.no-room".into()));

    let some = ["--rules", "confidence,majority,mean"];
    let clear = desk.data(&[&evaluate[..], &some].concat());
    assert_eq!(rules_of(&clear), ["mean", "confidence", "majority"]);
    assert!(clear["splits"][0]["rules"][0]["clear"].is_null());
    let simulate = ["--limit", "2", "--mode", "simulate", "--calibration", "32"];
    let alone = [&evaluate[..], &simulate, &["--rules", "majority"]].concat();
    assert_eq!(rules_of(&desk.data(&alone)), ["majority"]);
    let under_one = [&evaluate[..], &simulate, &some, &["--ensemble"]].concat();
    assert_eq!(rules_of(&desk.data(&under_one)), ["mean", "majority"]);
    let part = |from: &str, limit: &str| {
        let words = [
            &evaluate[..],
            &["--rules", "mean", "--from", from, "--limit", limit],
        ];
        let data = desk.data(&words.concat());
        let accuracy = &data["ensembles"][0]["rules"][0]["accuracy"];
        accuracy.as_f64().expect("a number") * data["images"].as_f64().expect("a number")
    };
    let right = part("0", "7") + part("7", "13");
    assert!((right - part("0", "20")).abs() < 1e-6, "{right} right");
    let beyond = [&evaluate[..], &["--from", "1000000"]].concat();
    assert_eq!(desk.failure(&beyond), (4, "input.none".into()));
    let unknown = [&evaluate[..], &["--rules", "median"]].concat();
    assert_eq!(desk.run(&unknown).code, 4);
}

/// Names of the rules that the first ensemble was scored by.
fn rules_of(evaluation: &Value) -> Vec<&str> {
    let rules = evaluation["ensembles"][0]["rules"].as_array();
    let names = rules.into_iter().flatten();
    names.filter_map(|rule| rule["rule"].as_str()).collect()
}

/// A command line, word by word.
fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

/// Two programs of an ensemble, a picture, identities and their roster; what the picture shows.
fn masked_desk(desk: &Desk, names: &[&str]) -> Value {
    desk.write("model.onnx", NETWORK);
    draw_seven(&desk.path("seven.png"));
    desk.data(&[&COMPILE[..], &words("--ensemble -o a.scuro")].concat());
    desk.data(&[&COMPILE[..], &words("--contract a.scuro -o b.scuro")].concat());
    let mut roster = String::new();
    for name in names {
        let identity = format!("holder identity -o {name}.key --name {name}");
        let made = desk.run(&words(&identity)).stdout;
        roster.push_str(&made);
        // The key stays what it is, and its lines can be had again.
        assert_eq!(desk.run(&words(&identity)).stdout, made);
        let metadata = std::fs::metadata(desk.path(&format!("{name}.key"))).expect("a key");
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{name}");
    }
    desk.write("roster.toml", roster.as_bytes());
    let clear = "predict seven.png --model a.scuro --mode clear";
    desk.data(&words(clear))["predictions"][0]["label"].clone()
}

#[test]
fn masked_holders_answer_in_a_sum_and_the_rest_of_them_when_one_is_killed() {
    let (desk, names) = (Desk::new(), ["alpha", "beta", "gamma"]);
    let expected = masked_desk(&desk, &names);
    let addresses: Vec<String> = names.iter().map(|_| address().to_string()).collect();
    let serve = |at: usize| {
        let (name, listen, model) = (names[at], &addresses[at], ["a", "b"][at % 2]);
        let serve = format!("holder serve --model {model}.scuro --name {name} --listen {listen}");
        let masks = format!("--roster roster.toml --mask-key {name}.key --min-holders 2");
        service(&desk, &[words(&serve), words(&masks)].concat())
    };
    let (_alpha, _beta) = (serve(0), serve(1));
    let gamma = Arc::new(Mutex::new(serve(2)));
    let should = Arc::new(AtomicBool::new(false));
    let way = (Arc::downgrade(&gamma), addresses[2].clone());
    let deadly = deadly(way.0, way.1, Arc::clone(&should));
    let (hub, list) = (
        address(),
        format!("{},{},{deadly}", addresses[0], addresses[1]),
    );
    let serve = format!("coordinator serve --holders {list} --listen {hub} --roster roster.toml");
    let _coordinator = service(&desk, &words(&serve));

    let reply = ask(&desk, &hub.to_string(), |envelope| answered(envelope) == 3);
    assert_eq!(reply["data"]["label"], expected);
    assert_eq!(reply["data"]["answered"][1]["holder"], "beta");
    let query = |to: &str| format!("ensemble query seven.png --keys keys --coordinator {to}");
    let alone = desk.failure(&words(&query(&addresses[0])));
    assert_eq!(alone, (6, "masks.required".into()));

    // Killed between the rounds: nothing can be read, and a query that is signed anew is answered.
    should.store(true, Ordering::SeqCst);
    let reply = desk.data(&words(&query(&hub.to_string())));
    assert_eq!(reply["label"], expected);
    assert_eq!(reply["answered"].as_array().map(Vec::len), Some(2));
    assert_eq!(reply["left_out"][0]["holder"], "gamma");
}

#[test]
fn a_majority_is_counted_by_the_user_who_is_told_that_votes_are_revealed() {
    let desk = Desk::new();
    let expected = masked_desk(&desk, &[]);
    let addresses: Vec<String> = (0..3).map(|_| address().to_string()).collect();
    let serve = |(listen, model): (&String, &&str)| {
        let serve = format!("holder serve --model {model}.scuro --listen {listen}");
        service(&desk, &words(&serve))
    };
    let models = ["a", "b", "a"];
    let _holders: Vec<Victim> = addresses.iter().zip(&models).map(serve).collect();
    let (hub, list) = (address().to_string(), addresses.join(","));
    let serve = format!("coordinator serve --holders {list} --listen {hub} --reveal-votes");
    let _coordinator = service(&desk, &words(&serve));
    ask(&desk, &hub, |envelope| answered(envelope) == 3);
    let query = "ensemble query seven.png --keys keys --rule majority --coordinator";
    let query = [words(query), vec![&hub]].concat();
    let reply = desk.data(&query);
    assert_eq!(
        (&reply["label"], &reply["rule"]),
        (&expected, &json!("majority"))
    );
    let vote = |at: usize| (&reply["votes"][at]["holder"], &reply["votes"][at]["label"]);
    for (at, holder) in addresses.iter().enumerate() {
        assert_eq!(vote(at), (&json!(holder), &expected));
    }
    let told = desk.run(&query).stdout;
    assert!(
        told.contains("single votes, revealed by this rule"),
        "{told}"
    );
    let both = "coordinator serve --holders 127.0.0.1:1,127.0.0.1:2 --reveal-votes --roster";
    assert_eq!(desk.failure(&words(both)).0, 4);
}

#[test]
fn who_is_not_in_the_roster_does_not_start() {
    let (desk, names) = (Desk::new(), ["alpha", "beta"]);
    masked_desk(&desk, &names);
    let start = words("holder serve --model a.scuro --roster roster.toml --mask-key");
    for (rest, exit, code) in [
        ("alpha.key --name delta", 4, "ensemble.setting"),
        ("beta.key --name alpha", 4, "ensemble.setting"),
        (
            "alpha.key --name alpha --min-holders 3",
            4,
            "ensemble.setting",
        ),
        ("none.key --name alpha", 4, "file.not-found"),
        ("roster.toml --name alpha", 6, "keys.readable-by-others"),
    ] {
        let found = desk.failure(&[start.clone(), words(rest)].concat());
        assert_eq!(found, (exit, code.into()), "{rest}");
    }
    desk.write("broken.toml", b"[[holder]]\nname = 3\n");
    let broken = "coordinator serve --holders 127.0.0.1:1,127.0.0.1:2 --roster broken.toml";
    assert_eq!(desk.failure(&words(broken)), (4, "masks.roster".into()));
    let few = "coordinator serve --holders 127.0.0.1:1 --roster roster.toml";
    assert_eq!(desk.failure(&words(few)), (4, "ensemble.setting".into()));
}

#[test]
fn what_cannot_be_served_is_refused_before_it_starts() {
    let desk = Desk::new();
    desk.write("model.onnx", NETWORK);
    let missing = ["holder", "serve", "--model", "none.scuro"];
    assert_eq!(desk.failure(&missing), (4, "file.not-found".into()));
    desk.data(&[&COMPILE[..], &["--ensemble", "-o", "a.scuro"]].concat());
    let classes = "1,0,2,3,4,5,6,7,8,9";
    let swapped = [
        "--contract",
        "a.scuro",
        "--classes",
        classes,
        "-o",
        "b.scuro",
    ];
    let swapped = [&COMPILE[..], &swapped].concat();
    assert_eq!(desk.failure(&swapped), (4, "ensemble.contract".into()));
    let open = [
        "holder",
        "serve",
        "--model",
        "a.scuro",
        "--listen",
        "0.0.0.0:0",
    ];
    assert_eq!(desk.failure(&open), (6, "peer.needs-tls".into()));
    let far = ["coordinator", "serve", "--holders", "192.0.2.1:7001"];
    assert_eq!(desk.failure(&far), (6, "peer.needs-tls".into()));
    let serve = ["coordinator", "serve", "--holders", "127.0.0.1:7001"];
    for bad in [["--deadline", "0"], ["--min-holders", "2"]] {
        let (exit, _) = desk.failure(&[&serve[..], &bad[..]].concat());
        assert_eq!(exit, 4, "{bad:?}");
    }
    let contract = [&serve[..], &["--contract", "a.scuro"]].concat();
    assert_eq!(desk.failure(&contract), (4, "ensemble.not-a-face".into()));
    let nobody = address().to_string();
    let query = ["ensemble", "query", "x.png", "--coordinator", &nobody];
    assert_eq!(desk.failure(&query), (2, "connection.failed".into()));
}
