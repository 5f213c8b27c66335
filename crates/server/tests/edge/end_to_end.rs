//! Frames from every source, through encryption and program, to a vault that decrypts them.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::support::vault::{Full, Vault};
use crate::support::{
    FIRST, PIXELS, Protected, Recipe, SECOND, World, eventually, first, json, label, pixels, post,
    run, second,
};
use scuro_server::edge::service::{Edge, Options};
use scuro_server::edge::sources::{Source, Stdin, StreamFormat};
use scuro_server::edge::spool::{FILE, Limits, Taken};
use scuro_server::edge::{frame::FrameId, intake};

async fn started(world: &World, with: impl FnOnce(&mut Options)) -> (Edge, Option<Vault>) {
    let vault = Vault::start(
        "127.0.0.1:0".parse().expect("address"),
        &world.vendor(),
        Arc::clone(&world.vault),
    )
    .await;
    let mut options = world.options();
    options.vault = Some(vault.address.to_string());
    with(&mut options);
    let edge = Edge::start(options).await.expect("started");
    (edge, Some(vault))
}

fn http(edge: &Edge) -> std::net::SocketAddr {
    edge.addresses().http.expect("HTTP")
}

#[test]
fn posted_frames_are_answered_once_in_order_and_rightly() {
    run(async {
        let world = World::new();
        let (edge, _vault) = started(&world, |_| {}).await;
        let (status, _) = post(http(&edge), &[], json("early", 1).as_bytes())
            .await
            .expect("post");
        assert_eq!(status, 503, "no model yet");
        first()
            .deploy(&mut world.deployer(edge.addresses().device))
            .await;
        for number in 0..30 {
            let frame = json(&format!("frame-{number}"), number % 10);
            let (status, text) = post(http(&edge), &[], frame.as_bytes())
                .await
                .expect("post");
            assert_eq!(status, 202, "{text}");
        }
        eventually("all answers", || world.vault.count() == 30).await;
        let labels = world.vault.labels(&first().client);
        for (number, inference) in world.vault.inferences().iter().enumerate() {
            assert_eq!(labels[&inference.query_id], label(FIRST, number % 10));
            assert_eq!(inference.deployment, first().manifest.digest());
            assert!(inference.timings.evaluate_us > 0 && inference.timings.captured_ms > 0);
        }
        eventually("an empty spool", || {
            edge.spool().depth() == Default::default()
        })
        .await;
        edge.stop().await;
    });
}

/// Headers and body.
type Post<'a> = (&'a [(&'a str, &'a str)], &'a [u8]);

#[test]
fn malformed_and_repeated_posts_are_told_apart_and_stop_nothing() {
    run(async {
        let world = World::new();
        let (edge, _vault) = started(&world, |_| {}).await;
        first()
            .deploy(&mut world.deployer(edge.addresses().device))
            .await;
        let address = http(&edge);
        let raw = [("content-type", "application/octet-stream")];
        let png = [("content-type", "image/png")];
        let bad_id = [("x-scuro-frame-id", "é")];
        let cases: [Post<'_>; 6] = [
            (&[], b"{\"pixels\":[1,2,3]}"),
            (&[], b"{\"pixels\":"),
            (&raw, &[0; 15]),
            (&raw, &[0; 17]),
            (&png, b"no picture"),
            (&bad_id, &[0; 16]),
        ];
        for (headers, body) in cases {
            let (status, text) = post(address, headers, body).await.expect("post");
            assert!(status == 400 && text.contains("frame.malformed"), "{text}");
        }
        let named = [("x-scuro-frame-id", "one")];
        let (status, text) = post(address, &named, &pixels(4)).await.expect("post");
        assert!(status == 202 && text.contains("\"again\":false"), "{text}");
        let (status, text) = post(address, &named, &pixels(4)).await.expect("post");
        assert!(status == 202 && text.contains("\"again\":true"), "{text}");
        let (status, _) = post(address, &named, &pixels(5)).await.expect("post");
        assert_eq!(status, 409, "the same name for another frame");
        eventually("the one answer", || world.vault.count() == 1).await;
        let metrics = edge.metrics().render();
        for reason in ["json", "length", "picture", "id", "id-reused"] {
            let series = format!("frames_refused_total{{reason=\"{reason}\",source=\"http\"}}");
            assert!(metrics.contains(&series), "{reason}: {metrics}");
        }
        edge.stop().await;
    });
}

#[test]
fn frames_that_wait_share_queries_and_one_that_cannot_be_encrypted_leaves_the_others() {
    run(async {
        let world = World::new();
        let (edge, _vault) = started(&world, |options| options.workers = 1).await;
        second()
            .deploy(&mut world.deployer(edge.addresses().device))
            .await;
        for number in 0..41 {
            let frame = match number {
                20 => format!(r#"{{"id":"wild","values":{:?}}}"#, [1e9; PIXELS]),
                _ => json(&format!("frame-{number}"), number % 10),
            };
            let (status, text) = post(http(&edge), &[], frame.as_bytes())
                .await
                .expect("post");
            assert_eq!(status, 202, "{text}");
        }
        eventually("40 answers", || world.vault.count() == 40).await;
        let labels = world.vault.labels(&second().client);
        let inferences = world.vault.inferences();
        let found: Vec<usize> = inferences.iter().map(|i| labels[&i.query_id]).collect();
        let sound = (0..41).filter(|number| *number != 20);
        let expected: Vec<usize> = sound.map(|number| label(SECOND, number % 10)).collect();
        assert_eq!(found, expected);
        assert!(
            inferences.iter().any(|i| i.image > 0),
            "none shared a query"
        );
        assert_eq!(edge.spool().reader().dead_letters().expect("read"), 1);
        edge.stop().await;
    });
}

#[test]
fn a_folder_gives_each_file_once_and_keeps_the_bad_ones_apart() {
    run(async {
        let world = World::new();
        let folder = world.folder.path().join("camera");
        std::fs::create_dir(&folder).expect("folder");
        let (edge, _vault) = started(&world, |options| options.watch = vec![folder.clone()]).await;
        first()
            .deploy(&mut world.deployer(edge.addresses().device))
            .await;
        std::fs::write(folder.join("a.raw"), pixels(1)).expect("raw");
        std::fs::write(folder.join("b.json"), json("b", 2)).expect("json");
        std::fs::write(folder.join("c.png"), b"\x89PNG broken").expect("picture");
        std::fs::write(folder.join(".hidden.raw"), pixels(3)).expect("hidden");
        std::fs::write(folder.join("d.raw.tmp"), pixels(3)).expect("unfinished");
        std::fs::write(folder.join("e.raw"), pixels(5)).expect("raw");
        eventually("three answers", || world.vault.count() == 3).await;
        let names = |folder: &std::path::Path| -> BTreeSet<String> {
            let entries = std::fs::read_dir(folder).expect("folder");
            let name = |entry: std::io::Result<std::fs::DirEntry>| {
                entry
                    .expect("entry")
                    .file_name()
                    .into_string()
                    .expect("text")
            };
            entries.map(name).collect()
        };
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_string()).collect();
        eventually("files put away", || names(&folder.join("done")).len() == 3).await;
        let done: BTreeSet<String> = set(&["a.raw", "b.json", "e.raw"]);
        assert_eq!(names(&folder.join("done")), done);
        let failed: BTreeSet<String> = set(&["c.png"]);
        assert_eq!(names(&folder.join("failed")), failed);
        // As if the device had died between taking the file and moving it away.
        std::fs::rename(folder.join("done/a.raw"), folder.join("a.raw")).expect("put back");
        std::fs::rename(folder.join("d.raw.tmp"), folder.join("d.raw")).expect("finished");
        eventually("the finished one", || world.vault.count() == 4).await;
        eventually("both put away", || names(&folder.join("done")).len() == 4).await;
        let bright: Vec<usize> = world.vault.labels(&first().client).into_values().collect();
        let bright: BTreeSet<usize> = bright.into_iter().collect();
        assert_eq!(bright, BTreeSet::from([1, 2, 3, 5]));
        edge.stop().await;
        assert_eq!(world.vault.count(), 4);
    });
}

#[test]
fn streams_give_json_lines_and_raw_frames_and_skip_what_is_malformed() {
    run(async {
        let world = World::new();
        let (edge, _vault) = started(&world, |_| {}).await;
        first()
            .deploy(&mut world.deployer(edge.addresses().device))
            .await;
        let lines = [
            json("l1", 1),
            "not json".to_string(),
            json("l1", 1),
            String::new(),
            json("l2", 2),
        ];
        let lines = Box::new(std::io::Cursor::new(lines.join("\n").into_bytes()));
        let source = Stdin::reading(StreamFormat::JsonLines, "a", lines);
        Box::new(source)
            .acquire(edge.intake().clone())
            .await
            .expect("read");
        let raw = [pixels(3), pixels(4), vec![1, 2, 3]].concat();
        let source = Stdin::reading(StreamFormat::Raw, "b", Box::new(std::io::Cursor::new(raw)));
        Box::new(source)
            .acquire(edge.intake().clone())
            .await
            .expect("read");
        eventually("four answers", || world.vault.count() == 4).await;
        let labels = world.vault.labels(&first().client);
        let labels: Vec<usize> = world
            .vault
            .inferences()
            .iter()
            .map(|inference| labels[&inference.query_id])
            .collect();
        assert_eq!(labels, [1, 2, 3, 4]);
        let metrics = edge.metrics().render();
        assert!(
            metrics.contains("duplicate_total{source=\"stdin\"} 1"),
            "{metrics}"
        );
        assert!(
            metrics.contains("{reason=\"truncated\",source=\"stdin\"} 1"),
            "{metrics}"
        );
        edge.stop().await;
    });
}

#[test]
fn a_clear_feature_extractor_goes_before_the_encrypted_classifier() {
    run(async {
        let world = World::new();
        let (edge, _vault) = started(&world, |_| {}).await;
        let split = crate::support::Protected::new(Recipe {
            features: true,
            shift: 2,
            ..FIRST
        });
        split
            .deploy(&mut world.deployer(edge.addresses().device))
            .await;
        for bright in 0..10 {
            let frame = json(&format!("f{bright}"), bright);
            assert_eq!(
                post(http(&edge), &[], frame.as_bytes())
                    .await
                    .expect("post")
                    .0,
                202
            );
        }
        eventually("ten answers", || world.vault.count() == 10).await;
        let labels = world.vault.labels(&split.client);
        for (bright, inference) in world.vault.inferences().iter().enumerate() {
            assert_eq!(labels[&inference.query_id], (bright + 2) % 10);
        }
        edge.stop().await;
    });
}

#[test]
fn while_the_vault_is_away_inferences_wait_and_nothing_is_sent_twice() {
    run(async {
        let world = World::new();
        let (edge, vault) = started(&world, |_| {}).await;
        first()
            .deploy(&mut world.deployer(edge.addresses().device))
            .await;
        let address = vault.as_ref().expect("vault").address;
        vault.expect("vault").vanish().await;
        for bright in 0..20 {
            let frame = json(&format!("f{bright}"), bright % 10);
            assert_eq!(
                post(http(&edge), &[], frame.as_bytes())
                    .await
                    .expect("post")
                    .0,
                202
            );
        }
        eventually("all waiting", || edge.spool().depth().inferences == 20).await;
        assert_eq!(world.vault.count(), 0);
        eventually("a failure counted", || {
            edge.metrics().render().contains("scuro_edge_uplink_up 0")
        })
        .await;
        let _vault = Vault::start(address, &world.vendor(), Arc::clone(&world.vault)).await;
        eventually("all answers", || world.vault.count() == 20).await;
        eventually("up again", || {
            edge.metrics().render().contains("uplink_up 1")
        })
        .await;
        assert_eq!(world.vault.again(), 0);
        edge.stop().await;
    });
}

#[test]
fn what_the_vault_refuses_becomes_a_dead_letter_and_the_others_go_on() {
    run(async {
        let world = World::new();
        let (edge, vault) = started(&world, |_| {}).await;
        first()
            .deploy(&mut world.deployer(edge.addresses().device))
            .await;
        let address = vault.as_ref().expect("vault").address;
        vault.expect("vault").vanish().await;
        let mut refused = None;
        for bright in 0..6 {
            let arrival = intake::Arrival {
                id: Some(FrameId::new(format!("f{bright}")).expect("id")),
                form: intake::Form::Raw,
                bytes: pixels(bright),
            };
            let accepted = edge
                .intake()
                .offer("test", &arrival)
                .await
                .expect("accepted");
            if bright == 2 {
                refused = Some(accepted.query_id);
            }
        }
        world.vault.refuse(refused.expect("a query"));
        world.vault.refuse_batches();
        let _vault = Vault::start(address, &world.vendor(), Arc::clone(&world.vault)).await;
        eventually("five answers", || world.vault.count() == 5).await;
        eventually("an empty spool", || {
            edge.spool().depth() == Default::default()
        })
        .await;
        let rows = edge.spool().reader().rows(10).expect("rows");
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].id.as_str(), rows[0].state), ("f2", "dead"));
        let reason = rows[0].reason.clone().expect("a reason");
        assert!(reason.contains("inference.replayed"), "{reason}");
        edge.stop().await;
    });
}

#[test]
fn a_frame_that_was_given_up_is_a_new_one_when_it_comes_again() {
    run(async {
        let world = World::new();
        let (edge, vault) = started(&world, |options| options.limits.inference_bytes = 0).await;
        first()
            .deploy(&mut world.deployer(edge.addresses().device))
            .await;
        accept(&edge, 0..2).await;
        let taken = edge.spool().reader().taken(10).expect("read");
        world.vault.refuse(taken[1].query_id);
        let edge = restarted(&world, edge, &vault).await;
        eventually("the other's answer", || world.vault.count() == 1).await;
        let dead = || edge.spool().reader().dead_letters().expect("read");
        eventually("its dead letter", || dead() == 1).await;
        let other = format!(r#"{{"id":"f0","pixels":{:?}}}"#, [1; PIXELS]);
        let posted = post(http(&edge), &[], other.as_bytes()).await;
        assert_eq!(posted.expect("post").0, 409, "its name stays its own");
        let frame = json("f0", 0);
        let posted = post(http(&edge), &[], frame.as_bytes()).await;
        let (status, text) = posted.expect("post");
        assert!(status == 202 && text.contains("\"again\":false"), "{text}");
        eventually("its answer", || world.vault.count() == 2).await;
        eventually("an empty spool", || {
            edge.spool().depth() == Default::default()
        })
        .await;
        assert_eq!(dead(), 0);
        let found = edge.spool().reader().taken(10).expect("read");
        let found: Vec<_> = found
            .iter()
            .map(|row| (row.id.as_str(), row.state))
            .collect();
        assert_eq!(found, [("f0", "answered"), ("f1", "answered")]);
        let (status, text) = post(http(&edge), &[], frame.as_bytes())
            .await
            .expect("post");
        assert!(status == 202 && text.contains("\"again\":true"), "{text}");
        edge.stop().await;
    });
}

#[test]
fn frames_that_were_taken_are_listed_with_their_queries_and_what_became_of_them() {
    run(async {
        let world = World::new();
        let (edge, vault) = started(&world, |_| {}).await;
        first()
            .deploy(&mut world.deployer(edge.addresses().device))
            .await;
        accept(&edge, 0..2).await;
        eventually("two answers", || world.vault.count() == 2).await;
        eventually("an empty spool", || {
            edge.spool().depth() == Default::default()
        })
        .await;
        vault.expect("vault").vanish().await;
        let wild = format!(r#"{{"id":"wild","values":{:?}}}"#, [1e9; PIXELS]);
        let posted = post(http(&edge), &[], wild.as_bytes()).await;
        assert_eq!(posted.expect("post").0, 202);
        accept(&edge, 2..3).await;
        eventually("one waiting", || edge.spool().depth().inferences == 1).await;
        let taken = edge.spool().reader().taken(3).expect("read");
        let shown = |row: &Taken| (row.id.clone(), row.state);
        let names = [("f2", "waiting"), ("wild", "dead"), ("f1", "answered")];
        let names = names.map(|(id, state)| (id.to_string(), state));
        assert_eq!(taken.iter().map(shown).collect::<Vec<_>>(), names);
        let answered = world.vault.inferences();
        assert_eq!(taken[2].query_id, answered[1].query_id);
        edge.stop().await;
    });
}

#[test]
fn a_device_without_frames_says_whether_its_vault_takes_its_certificate() {
    run(async {
        let world = World::new();
        let (edge, _vault) = started(&world, |_| {}).await;
        let shows = |edge: &Edge, text: &str| edge.metrics().render().contains(text);
        eventually("up", || shows(&edge, "scuro_edge_uplink_up 1")).await;
        edge.stop().await;
        let foreign = World::new();
        let stranger = Vault::start(
            "127.0.0.1:0".parse().expect("address"),
            &foreign.vendor(),
            Arc::clone(&foreign.vault),
        )
        .await;
        let mut options = world.options();
        options.vault = Some(stranger.address.to_string());
        let edge = Edge::start(options).await.expect("started");
        eventually("a failure", || {
            shows(
                &edge,
                "scuro_edge_uplink_failures_total{reason=\"wire.invalid\"}",
            )
        })
        .await;
        assert!(shows(&edge, "scuro_edge_uplink_up 0"));
        edge.stop().await;
    });
}

/// The device again, with usual limits.
async fn restarted(world: &World, edge: Edge, vault: &Option<Vault>) -> Edge {
    edge.stop().await;
    let mut options = world.options();
    options.vault = vault.as_ref().map(|vault| vault.address.to_string());
    Edge::start(options).await.expect("started again")
}

/// Posts frames whose pixel of the same number shines.
async fn accept(edge: &Edge, names: std::ops::Range<usize>) {
    for number in names {
        let frame = json(&format!("f{number}"), number % 10);
        let answer = post(http(edge), &[], frame.as_bytes()).await;
        assert_eq!(answer.expect("post").0, 202);
    }
}

#[test]
fn a_query_is_registered_when_its_frame_is_accepted_and_again_for_the_version_that_runs() {
    run(async {
        let world = World::new();
        // As if the vault were so far behind that nothing is processed.
        let (edge, vault) = started(&world, |options| options.limits.inference_bytes = 0).await;
        let (one, two) = (first().manifest.digest(), second().manifest.digest());
        let mut deployer = world.deployer(edge.addresses().device);
        first().deploy(&mut deployer).await;
        accept(&edge, 0..3).await;
        eventually("three", || world.vault.registered(one) == 3).await;
        let vault = vault.expect("vault");
        let address = vault.address;
        vault.vanish().await;
        accept(&edge, 3..5).await;
        let vault = Vault::start(address, &world.vendor(), Arc::clone(&world.vault)).await;
        eventually("five", || world.vault.registered(one) == 5).await;
        assert_eq!((world.vault.count(), edge.spool().depth().frames), (0, 5));
        second().deploy(&mut deployer).await;
        edge.stop().await;
        let mut options = world.options();
        options.vault = Some(vault.address.to_string());
        let edge = Edge::start(options).await.expect("started again");
        eventually("five answers", || world.vault.count() == 5).await;
        assert_eq!(world.vault.registered(two), 5);
        edge.stop().await;
    });
}

#[test]
fn a_vault_that_lost_registrations_is_told_again_and_no_frame_is_given_up() {
    run(async {
        let world = World::new();
        let (edge, _vault) = started(&world, |_| {}).await;
        first()
            .deploy(&mut world.deployer(edge.addresses().device))
            .await;
        world.vault.forget(4);
        accept(&edge, 0..4).await;
        eventually("four answers", || world.vault.count() == 4).await;
        assert_eq!(edge.spool().reader().dead_letters().expect("count"), 0);
        edge.stop().await;
    });
}

#[test]
fn a_vault_that_does_not_know_yet_what_it_deployed_is_asked_again() {
    run(async {
        let world = World::new();
        let (edge, _vault) = started(&world, |_| {}).await;
        first()
            .deploy(&mut world.deployer(edge.addresses().device))
            .await;
        world.vault.knows_deployment(false);
        accept(&edge, 0..3).await;
        eventually("all waiting", || edge.spool().depth().inferences == 3).await;
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        assert_eq!(
            (world.vault.count(), edge.spool().depth().inferences),
            (0, 3)
        );
        world.vault.knows_deployment(true);
        eventually("all answers", || world.vault.count() == 3).await;
        edge.stop().await;
    });
}

#[test]
fn a_frame_that_is_given_up_has_its_query_withdrawn() {
    run(async {
        let world = World::new();
        let (edge, _vault) = started(&world, |_| {}).await;
        first()
            .deploy(&mut world.deployer(edge.addresses().device))
            .await;
        let frame = format!(r#"{{"id":"far","values":{:?}}}"#, [1e30; PIXELS]);
        let posted = post(http(&edge), &[], frame.as_bytes()).await;
        assert_eq!(posted.expect("post").0, 202);
        accept(&edge, 0..1).await;
        eventually("the answer of the other", || world.vault.count() == 1).await;
        let reader = edge.spool().reader();
        let dead = || {
            let rows = reader.rows(10).expect("read").into_iter();
            rows.filter(|row| row.state == "dead")
                .map(|row| row.query_id)
        };
        eventually("its query withdrawn", || {
            world.vault.withdrawn().into_iter().eq(dead()) && dead().count() == 1
        })
        .await;
        eventually("told once", || {
            reader.withdrawals(10).expect("read").is_empty()
        })
        .await;
        let registered = world.vault.registered(first().manifest.digest());
        assert_eq!(registered, 1, "that of the other");
        edge.stop().await;
    });
}

#[test]
fn what_is_registered_is_sent_although_the_vault_takes_no_new_queries() {
    for full in [Full::Later, Full::Batch] {
        run(async {
            let world = World::new();
            let (edge, _vault) = started(&world, |_| {}).await;
            first()
                .deploy(&mut world.deployer(edge.addresses().device))
                .await;
            world.vault.takes_inferences(false);
            accept(&edge, 0..3).await;
            let deployment = first().manifest.digest();
            eventually("three registered", || {
                world.vault.registered(deployment) == 3
            })
            .await;
            world.vault.fill(full);
            accept(&edge, 3..6).await;
            eventually("all waiting", || edge.spool().depth().inferences == 6).await;
            world.vault.takes_inferences(true);
            eventually("three answers", || world.vault.count() == 3).await;
            eventually("the others waiting", || {
                edge.spool().depth().inferences == 3
            })
            .await;
            let reason = "failures_total{reason=\"query.too-many\"}";
            let told = |text: &str| edge.metrics().render().contains(text);
            assert!(full == Full::Batch || told(reason));
            assert_eq!(world.vault.registered(deployment), 3, "{full:?}");
            world.vault.fill(Full::No);
            eventually("all answers", || world.vault.count() == 6).await;
            edge.stop().await;
        });
    }
}

#[test]
fn queries_are_registered_once_the_vault_knows_the_deployment_and_again_for_the_next() {
    run(async {
        let world = World::new();
        world.vault.knows_deployment(false);
        // Nothing is processed, so that nothing but the registrar registers.
        let (edge, _vault) = started(&world, |options| options.limits.inference_bytes = 0).await;
        let mut deployer = world.deployer(edge.addresses().device);
        first().deploy(&mut deployer).await;
        accept(&edge, 0..3).await;
        eventually("all three refused", || {
            world.vault.unknown_deployments() >= 3
        })
        .await;
        world.vault.knows_deployment(true);
        let registered = |model: &Protected| world.vault.registered(model.manifest.digest());
        eventually("registered", || registered(first()) == 3).await;
        second().deploy(&mut deployer).await;
        eventually("moved", || registered(second()) == 3).await;
        assert_eq!(registered(first()), 0);
        edge.stop().await;
    });
}

#[test]
fn a_full_queue_refuses_with_retry_after_and_goes_on_when_there_is_room() {
    run(async {
        let world = World::new();
        let (edge, vault) = started(&world, |options| {
            options.limits = Limits {
                frames: 4,
                inference_bytes: 1,
                ..Limits::default()
            };
        })
        .await;
        first()
            .deploy(&mut world.deployer(edge.addresses().device))
            .await;
        let address = vault.as_ref().expect("vault").address;
        vault.expect("vault").vanish().await;
        let mut taken = 0;
        let text = loop {
            let frame = json(&format!("f{taken}"), taken % 10);
            let (status, text) = post(http(&edge), &[], frame.as_bytes())
                .await
                .expect("post");
            if status != 202 {
                assert_eq!(status, 429, "{text}");
                break text;
            }
            taken += 1;
            assert!(taken < 40, "the queue never fills");
        };
        assert!(
            text.contains("retry-after: 1") && text.contains("queue.full"),
            "{text}"
        );
        eventually("processing that rests", || {
            let metrics = edge.metrics().render();
            metrics.contains("rests{reason=\"vault-behind\"} 1")
        })
        .await;
        let _vault = Vault::start(address, &world.vendor(), Arc::clone(&world.vault)).await;
        eventually("every accepted frame", || world.vault.count() == taken).await;
        let (status, _) = post(http(&edge), &[], json("last", 1).as_bytes())
            .await
            .expect("post");
        assert_eq!(status, 202);
        eventually("the last", || world.vault.count() == taken + 1).await;
        edge.stop().await;
    });
}

#[test]
fn a_full_disk_refuses_frames_and_loses_none() {
    run(async {
        let world = World::new();
        let (edge, vault) = started(&world, |options| {
            options.limits.file_bytes = 512 << 10;
        })
        .await;
        first()
            .deploy(&mut world.deployer(edge.addresses().device))
            .await;
        let address = vault.as_ref().expect("vault").address;
        vault.expect("vault").vanish().await;
        let mut taken = 0;
        let text = loop {
            let frame = json(&format!("f{taken}"), taken % 10);
            let (status, text) = post(http(&edge), &[], frame.as_bytes())
                .await
                .expect("post");
            if status != 202 {
                assert_eq!(status, 429, "{text}");
                break text;
            }
            taken += 1;
            assert!(taken < 20_000, "the disk never fills");
        };
        assert!(text.contains("file.disk-full"), "{text}");
        let _vault = Vault::start(address, &world.vendor(), Arc::clone(&world.vault)).await;
        eventually("every accepted frame", || world.vault.count() == taken).await;
        let (status, text) = post(http(&edge), &[], json("last", 1).as_bytes())
            .await
            .expect("post");
        assert_eq!(status, 202, "{text}");
        edge.stop().await;
    });
}

#[test]
fn a_second_service_in_the_same_folder_and_a_damaged_spool_are_refused() {
    run(async {
        let world = World::new();
        let edge = Edge::start(world.options()).await.expect("started");
        let second = Edge::start(world.options()).await.expect_err("in use");
        assert_eq!(second.code(), "edge.in-use");
        edge.stop().await;
        let file = world.folder.path().join("device").join(FILE);
        for ending in ["", "-wal", "-shm"] {
            let part = file.with_file_name(format!("{FILE}{ending}"));
            let _ = std::fs::remove_file(part);
        }
        std::fs::write(&file, [7; 4096]).expect("damaged");
        let damaged = Edge::start(world.options()).await.expect_err("damaged");
        assert_eq!(damaged.code(), "spool.damaged");
    });
}
