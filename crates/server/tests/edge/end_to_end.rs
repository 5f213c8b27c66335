//! Frames from every source, through encryption and program, to a vault that decrypts them.

use std::collections::BTreeSet;
use std::io::Cursor;
use std::path::Path;

use crate::support::site::{Site, processes_nothing};
use crate::support::vault::Full;
use crate::support::{
    FIRST, PIXELS, Protected, Recipe, SECOND, World, eventually, first, json, label, pixels, run,
    second, wild,
};
use scuro_server::edge::service::Edge;
use scuro_server::edge::sources::{Source, Stdin, StreamFormat};
use scuro_server::edge::spool::{FILE, Limits, Taken};
use scuro_wire::inference::Inference;

#[test]
fn posted_frames_are_answered_once_in_order_and_rightly() {
    run(async {
        let site = Site::bare(World::new(), |_| {}).await;
        let (status, _) = site.post(&[], json("early", 1).as_bytes()).await;
        assert_eq!(status, 503, "no model yet");
        site.deploy(first()).await;
        site.accept(0..30).await;
        site.is_answered(30).await;
        let expected: Vec<usize> = (0..30).map(|number| label(FIRST, number % 10)).collect();
        assert_eq!(site.world.vault.labels(first()), expected);
        for Inference { timings, .. } in site.world.vault.inferences() {
            assert!(timings.evaluate_us > 0 && timings.captured_ms > 0);
        }
        site.stop().await;
    });
}

/// Headers and body.
type Post<'a> = (&'a [(&'a str, &'a str)], &'a [u8]);

#[test]
fn malformed_and_repeated_posts_are_told_apart_and_stop_nothing() {
    run(async {
        let site = Site::new(|_| {}).await;
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
            let (status, text) = site.post(headers, body).await;
            assert!(status == 400 && text.contains("frame.malformed"), "{text}");
        }
        let named = [("x-scuro-frame-id", "one")];
        for again in ["\"again\":false", "\"again\":true"] {
            let (status, text) = site.post(&named, &pixels(4)).await;
            assert!(status == 202 && text.contains(again), "{text}");
        }
        let (status, _) = site.post(&named, &pixels(5)).await;
        assert_eq!(status, 409, "the same name for another frame");
        site.is_answered(1).await;
        for reason in ["json", "length", "picture", "id", "id-reused"] {
            let series = format!("frames_refused_total{{reason=\"{reason}\",source=\"http\"}}");
            assert!(site.shows(&series), "{reason}");
        }
        site.stop().await;
    });
}

#[test]
fn frames_that_wait_share_queries_and_one_that_cannot_be_encrypted_leaves_the_others() {
    run(async {
        let site = Site::bare(World::new(), processes_nothing).await;
        site.deploy(second()).await;
        site.accept(0..20).await;
        site.accept_text(&wild("wild")).await;
        site.accept(21..41).await;
        let site = site.restart(|options| options.workers = 1).await;
        site.settles(40).await;
        let sound = (0..41).filter(|number| *number != 20);
        let expected: Vec<usize> = sound.map(|number| label(SECOND, number % 10)).collect();
        assert_eq!(site.world.vault.labels(second()), expected);
        let mut inferences = site.world.vault.inferences().into_iter();
        assert!(inferences.any(|i| i.image > 0), "none shared a query");
        assert_eq!(site.dead_letters(), 1);
        site.stop().await;
    });
}

/// Names of what is in a folder.
fn names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).expect("folder");
    let names = entries.map(|entry| entry.expect("entry").file_name());
    names
        .map(|name| name.into_string().expect("text"))
        .collect()
}

#[test]
fn a_folder_gives_each_file_once_and_keeps_the_bad_ones_apart() {
    run(async {
        let world = World::new();
        let folder = world.folder.path().join("camera");
        let site = Site::bare(world, |options| options.watch = vec![folder.clone()]).await;
        site.deploy(first()).await;
        let files: [(&str, &[u8]); 6] = [
            ("a.raw", &pixels(1)),
            ("b.json", &json("b", 2).into_bytes()),
            ("c.png", b"\x89PNG broken"),
            (".hidden.raw", &pixels(3)),
            ("d.raw.tmp", &pixels(3)),
            ("e.raw", &pixels(5)),
        ];
        for (name, bytes) in files {
            std::fs::write(folder.join(name), bytes).expect("written");
        }
        site.is_answered(3).await;
        let (done, failed) = (folder.join("done"), folder.join("failed"));
        eventually("files put away", || names(&done).len() == 3).await;
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_string()).collect();
        assert_eq!(names(&done), set(&["a.raw", "b.json", "e.raw"]));
        assert_eq!(names(&failed), set(&["c.png"]));
        // As if the device had died between taking the file and moving it away.
        std::fs::rename(done.join("a.raw"), folder.join("a.raw")).expect("put back");
        std::fs::rename(folder.join("d.raw.tmp"), folder.join("d.raw")).expect("finished");
        site.is_answered(4).await;
        eventually("both put away", || names(&done).len() == 4).await;
        let world = site.stop().await;
        let labels: BTreeSet<usize> = world.vault.labels(first()).into_iter().collect();
        assert_eq!(labels, BTreeSet::from([1, 2, 3, 5]));
        assert_eq!(world.vault.count(), 4);
    });
}

#[test]
fn streams_give_json_lines_and_raw_frames_and_skip_what_is_malformed() {
    run(async {
        let site = Site::new(|_| {}).await;
        let read = async |format, name: &str, bytes: Vec<u8>| {
            let source = Stdin::reading(format, name, Box::new(Cursor::new(bytes)));
            let read = Box::new(source).acquire(site.edge.intake().clone()).await;
            read.expect("read");
        };
        let (one, two) = (json("l1", 1), json("l2", 2));
        let lines = [&one[..], "not json", &one, "", &two].join("\n");
        read(StreamFormat::JsonLines, "a", lines.into_bytes()).await;
        let raw = [pixels(3), pixels(4), vec![1, 2, 3]].concat();
        read(StreamFormat::Raw, "b", raw).await;
        site.is_answered(4).await;
        assert_eq!(site.world.vault.labels(first()), [1, 2, 3, 4]);
        assert!(site.shows("{reason=\"json\",source=\"stdin\"} 1\n"));
        assert!(site.shows("duplicate_total{source=\"stdin\"} 1\n"));
        assert!(site.shows("{reason=\"truncated\",source=\"stdin\"} 1\n"));
        site.stop().await;
    });
}

#[test]
fn a_clear_feature_extractor_goes_before_the_encrypted_classifier() {
    run(async {
        let recipe = Recipe {
            features: true,
            shift: 2,
            ..FIRST
        };
        let split = Protected::new(recipe);
        let site = Site::bare(World::new(), |_| {}).await;
        site.deploy(&split).await;
        site.accept(0..10).await;
        site.is_answered(10).await;
        let expected: Vec<usize> = (0..10).map(|bright| label(recipe, bright)).collect();
        assert_eq!(site.world.vault.labels(&split), expected);
        site.stop().await;
    });
}

#[test]
fn while_the_vault_is_away_inferences_wait_and_nothing_is_sent_twice() {
    run(async {
        let mut site = Site::new(|_| {}).await;
        site.vault_leaves().await;
        site.accept(0..20).await;
        site.holds_inferences(20).await;
        assert_eq!(site.world.vault.count(), 0);
        site.comes_to_show("scuro_edge_uplink_up 0\n").await;
        site.vault_returns().await;
        site.is_answered(20).await;
        site.comes_to_show("scuro_edge_uplink_up 1\n").await;
        assert_eq!(site.world.vault.again(), 0);
        site.stop().await;
    });
}

#[test]
fn what_the_vault_refuses_becomes_a_dead_letter_and_the_others_go_on() {
    run(async {
        let mut site = Site::new(|_| {}).await;
        site.vault_leaves().await;
        site.accept(0..6).await;
        let taken = site.edge.spool().reader().taken(10).expect("read");
        let refused = taken.iter().find(|row| row.id == "f2").expect("f2");
        site.world.vault.refuse(refused.query_id);
        site.world.vault.refuse_batches();
        site.holds_inferences(6).await;
        site.vault_returns().await;
        site.settles(5).await;
        let rows = site.edge.spool().reader().rows(10).expect("rows");
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].id.as_str(), rows[0].state), ("f2", "dead"));
        let reason = rows[0].reason.clone().expect("a reason");
        assert!(reason.contains("inference.replayed"), "{reason}");
        site.stop().await;
    });
}

#[test]
fn a_frame_that_was_given_up_is_a_new_one_when_it_comes_again() {
    run(async {
        let site = Site::new(processes_nothing).await;
        site.accept(0..2).await;
        let taken = site.edge.spool().reader().taken(10).expect("read");
        site.world.vault.refuse(taken[1].query_id);
        let site = site.restart(|_| {}).await;
        site.settles(1).await;
        assert_eq!(site.dead_letters(), 1);
        let other = format!(r#"{{"id":"f0","pixels":{:?}}}"#, [1; PIXELS]);
        let (status, _) = site.post(&[], other.as_bytes()).await;
        assert_eq!(status, 409, "its name stays its own");
        let text = site.accept_text(&json("f0", 0)).await;
        assert!(text.contains("\"again\":false"), "{text}");
        site.is_answered(2).await;
        let found = site.edge.spool().reader().taken(10).expect("read");
        let found = found.iter().map(|row| (row.id.as_str(), row.state));
        let expected = [("f0", "answered"), ("f1", "answered")];
        assert_eq!(found.collect::<Vec<_>>(), expected);
        let text = site.accept_text(&json("f0", 0)).await;
        assert!(text.contains("\"again\":true"), "{text}");
        site.stop().await;
    });
}

#[test]
fn frames_that_were_taken_are_listed_with_their_queries_and_what_became_of_them() {
    run(async {
        let mut site = Site::new(|_| {}).await;
        site.accept(0..2).await;
        site.is_answered(2).await;
        site.vault_leaves().await;
        site.accept_text(&wild("wild")).await;
        site.accept(2..3).await;
        site.holds_inferences(1).await;
        let taken = site.edge.spool().reader().taken(3).expect("read");
        let shown = |row: &Taken| (row.id.clone(), row.state);
        let names = [("f2", "waiting"), ("wild", "dead"), ("f1", "answered")];
        let names = names.map(|(id, state)| (id.to_string(), state));
        assert_eq!(taken.iter().map(shown).collect::<Vec<_>>(), names);
        let answered = site.world.vault.inferences();
        assert_eq!(taken[2].query_id, answered[1].query_id);
        site.stop().await;
    });
}

#[test]
fn a_device_without_frames_says_whether_its_vault_takes_its_certificate() {
    run(async {
        let site = Site::bare(World::new(), |_| {}).await;
        site.comes_to_show("scuro_edge_uplink_up 1\n").await;
        let stranger = Site::bare(World::new(), |_| {}).await;
        let of_the_stranger = stranger.vault_address();
        let site = site
            .restart(|options| options.vault = Some(of_the_stranger.to_string()))
            .await;
        site.comes_to_show("scuro_edge_uplink_failures_total{reason=\"wire.invalid\"}")
            .await;
        assert!(site.shows("scuro_edge_uplink_up 0\n"));
        site.stop().await;
        stranger.stop().await;
    });
}

#[test]
fn a_query_is_registered_when_its_frame_is_accepted_and_again_for_the_version_that_runs() {
    run(async {
        let mut site = Site::new(processes_nothing).await;
        let (one, two) = (first().manifest.digest(), second().manifest.digest());
        site.accept(0..3).await;
        let registered = |site: &Site| site.world.vault.registered(one);
        eventually("three", || registered(&site) == 3).await;
        site.vault_leaves().await;
        site.accept(3..5).await;
        site.vault_returns().await;
        eventually("five", || registered(&site) == 5).await;
        assert_eq!((site.world.vault.count(), site.depth().frames), (0, 5));
        site.deploy(second()).await;
        let site = site.restart(|_| {}).await;
        site.is_answered(5).await;
        assert_eq!(site.world.vault.registered(two), 5);
        site.stop().await;
    });
}

#[test]
fn a_vault_that_lost_registrations_is_told_again_and_no_frame_is_given_up() {
    run(async {
        let site = Site::new(|_| {}).await;
        site.world.vault.forget(4);
        site.accept(0..4).await;
        site.is_answered(4).await;
        assert_eq!(site.world.vault.left_to_forget(), 0);
        site.stop().await;
    });
}

#[test]
fn a_vault_that_does_not_know_yet_what_it_deployed_is_asked_again() {
    run(async {
        let site = Site::new(|_| {}).await;
        let vault = &site.world.vault;
        vault.knows_deployment(false);
        site.accept(0..3).await;
        site.holds_inferences(3).await;
        let refused = vault.unknown_deployments();
        eventually("each once more", || {
            vault.unknown_deployments() >= refused + 6
        })
        .await;
        assert_eq!((vault.count(), site.depth().inferences), (0, 3));
        vault.knows_deployment(true);
        site.is_answered(3).await;
        site.stop().await;
    });
}

#[test]
fn a_frame_that_is_given_up_has_its_query_withdrawn() {
    run(async {
        let site = Site::new(|_| {}).await;
        site.accept_text(&wild("far")).await;
        site.accept(0..1).await;
        site.settles(1).await;
        let reader = site.edge.spool().reader();
        let dead = || {
            let rows = reader.rows(10).expect("read").into_iter();
            rows.filter(|row| row.state == "dead")
                .map(|row| row.query_id)
        };
        let vault = &site.world.vault;
        eventually("its query withdrawn", || {
            vault.withdrawn().into_iter().eq(dead()) && dead().count() == 1
        })
        .await;
        eventually("told once", || {
            reader.withdrawals(10).expect("read").is_empty()
        })
        .await;
        let registered = vault.registered(first().manifest.digest());
        assert_eq!(registered, 1, "that of the other");
        site.stop().await;
    });
}

#[test]
fn what_is_registered_is_sent_although_the_vault_takes_no_new_queries() {
    for full in [Full::Later, Full::Batch] {
        run(async {
            let site = Site::new(|_| {}).await;
            let vault = &site.world.vault;
            let registered = || vault.registered(first().manifest.digest());
            vault.takes_inferences(false);
            site.accept(0..3).await;
            eventually("three registered", || registered() == 3).await;
            vault.fill(full);
            site.accept(3..6).await;
            site.holds_inferences(6).await;
            vault.takes_inferences(true);
            eventually("three answers", || vault.count() == 3).await;
            site.holds_inferences(3).await;
            if full == Full::Later {
                site.comes_to_show("failures_total{reason=\"query.too-many\"}")
                    .await;
            }
            assert_eq!(registered(), 3, "{full:?}");
            vault.fill(Full::No);
            site.is_answered(6).await;
            site.stop().await;
        });
    }
}

#[test]
fn queries_are_registered_once_the_vault_knows_the_deployment_and_again_for_the_next() {
    run(async {
        let world = World::new();
        world.vault.knows_deployment(false);
        // Nothing but the registrar registers.
        let site = Site::bare(world, processes_nothing).await;
        site.deploy(first()).await;
        site.accept(0..3).await;
        let vault = &site.world.vault;
        eventually("all three refused", || vault.unknown_deployments() >= 3).await;
        vault.knows_deployment(true);
        let registered = |model: &Protected| vault.registered(model.manifest.digest());
        eventually("registered", || registered(first()) == 3).await;
        site.deploy(second()).await;
        eventually("moved", || registered(second()) == 3).await;
        assert_eq!(registered(first()), 0);
        site.stop().await;
    });
}

#[test]
fn a_full_queue_refuses_with_retry_after_and_goes_on_when_there_is_room() {
    run(async {
        let mut site = Site::new(|options| {
            options.limits = Limits {
                frames: 4,
                inference_bytes: 1,
                ..Limits::default()
            };
        })
        .await;
        site.vault_leaves().await;
        let (taken, text) = site.accept_until_full(40).await;
        assert!(text.contains("retry-after: 1\r\n"), "{text}");
        assert!(text.contains("queue.full"), "{text}");
        eventually("processing that rests", || site.rests("vault-behind")).await;
        site.vault_returns().await;
        site.is_answered(taken).await;
        site.accept_text(&json("last", 1)).await;
        site.is_answered(taken + 1).await;
        site.stop().await;
    });
}

#[test]
fn a_full_disk_refuses_frames_and_loses_none() {
    run(async {
        let mut site = Site::new(|options| options.limits.file_bytes = 512 << 10).await;
        site.vault_leaves().await;
        let (taken, text) = site.accept_until_full(20_000).await;
        assert!(text.contains("file.disk-full"), "{text}");
        site.vault_returns().await;
        site.is_answered(taken).await;
        site.accept_text(&json("last", 1)).await;
        site.stop().await;
    });
}

#[test]
fn a_second_service_in_the_same_folder_and_a_damaged_spool_are_refused() {
    run(async {
        let world = World::new();
        let edge = Edge::start(world.options()).await.expect("started");
        let second = Edge::start(world.options()).await;
        assert_eq!(second.expect_err("in use").code(), "edge.in-use");
        edge.stop().await;
        let file = world.folder.path().join("device").join(FILE);
        for ending in ["", "-wal", "-shm"] {
            let part = file.with_file_name(format!("{FILE}{ending}"));
            let _ = std::fs::remove_file(part);
        }
        std::fs::write(&file, [7; 4096]).expect("damaged");
        let damaged = Edge::start(world.options()).await;
        assert_eq!(damaged.expect_err("damaged").code(), "spool.damaged");
    });
}
