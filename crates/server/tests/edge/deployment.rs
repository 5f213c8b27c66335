//! Deployments: half-transferred, tampered, foreign, rolled back, and by somebody else.

use std::time::{Duration, SystemTime};

use crate::support::site::Site;
use crate::support::{
    Deployer, FIRST, Protected, Recipe, SECOND, World, first, label, pki, run, second,
};
use hyper::Method;
use scuro_program::Packing;
use scuro_wire::deployment::{ArtefactStatus, DeploymentList, DeploymentState, DeploymentStatus};
use scuro_wire::{Digest, KeyId, Manifest, Problem, Role, WireError, paths};

/// A device without a version, and its vault's deployment agent.
async fn device() -> (Site, Deployer) {
    let site = Site::alone(World::new(), |_| {}).await;
    let deployer = site.deployer();
    (site, deployer)
}

/// The same after a restart.
async fn restarted(site: Site) -> (Site, Deployer) {
    let site = site.restart(|_| {}).await;
    let deployer = site.deployer();
    (site, deployer)
}

/// Versions that the device has, the active one first.
async fn versions(deployer: &mut Deployer) -> Vec<u32> {
    let list = deployer.get(paths::DEPLOYMENTS).await;
    let list: DeploymentList = list.json().expect("a list");
    list.deployments.iter().map(|d| d.version).collect()
}

/// Which artefacts of a version the device has.
async fn there(deployer: &mut Deployer, manifest: &Manifest) -> Vec<bool> {
    let mut found = Vec::new();
    for artefact in &manifest.artefacts {
        let path = paths::artefact(&artefact.digest);
        let status = deployer.get(&path).await.status;
        assert!(status == 200 || status == 404, "{status}");
        found.push(status == 200);
    }
    found
}

/// Has a device roll back; what is active then.
async fn roll_back(deployer: &mut Deployer, path: &str) -> (u32, DeploymentState) {
    let back = deployer.call(Method::POST, path, Vec::new()).await;
    let status: DeploymentStatus = back.json().expect("a status");
    (status.version, status.state)
}

fn code(answer: &scuro_wire::https::Answer) -> (u16, String) {
    let problem: Problem = answer.json().expect("a problem");
    (answer.status.as_u16(), problem.code)
}

#[test]
fn an_artefact_goes_on_where_it_was_after_a_restart() {
    run(async {
        let (site, mut deployer) = device().await;
        let bytes = &first().artefacts[0];
        let (digest, half) = (Digest::of(bytes), bytes.len() / 2);
        let nothing = deployer.get(&paths::artefact(&digest)).await;
        assert_eq!(nothing.status, 404);
        let answer = deployer.put(&digest, 0, &bytes[..half], bytes.len()).await;
        assert!(answer.status.is_success(), "{}", answer.problem());
        let (site, mut deployer) = restarted(site).await;
        let head = deployer
            .call(Method::HEAD, &paths::artefact(&digest), Vec::new())
            .await;
        let stored = head.headers[paths::BYTES_STORED_HEADER]
            .to_str()
            .expect("text");
        assert_eq!(stored, half.to_string());
        let wrong = deployer
            .put(&digest, half + 1, &bytes[half..half + 8], bytes.len())
            .await;
        let status: ArtefactStatus = wrong.json().expect("the status");
        assert_eq!(
            (wrong.status.as_u16(), status.bytes_stored),
            (409, half as u64)
        );
        let early = deployer.activate(&first().manifest).await;
        assert_eq!(code(&early), (409, "artefact.missing".to_string()));
        let rest = deployer
            .put(&digest, half, &bytes[half..], bytes.len())
            .await;
        let status: ArtefactStatus = rest.json().expect("the status");
        assert!(status.complete);
        site.stop().await;
    });
}

#[test]
fn a_tampered_artefact_is_thrown_away_and_the_version_before_stays() {
    run(async {
        let (site, mut deployer) = device().await;
        first().deploy(&mut deployer).await;
        let mut tampered = second().artefacts[0].clone();
        let digest = Digest::of(&tampered);
        let place = tampered.len() / 2;
        tampered[place] ^= 1;
        let answer = deployer.put(&digest, 0, &tampered, tampered.len()).await;
        assert_eq!(code(&answer), (422, "artefact.digest".to_string()));
        assert_eq!(deployer.get(&paths::artefact(&digest)).await.status, 404);
        let answer = deployer.activate(&second().manifest).await;
        assert_eq!(code(&answer), (409, "artefact.missing".to_string()));
        assert_eq!(versions(&mut deployer).await, [1]);
        site.stop().await;
    });
}

/// Manifests of parts that are all here and do not belong together, and why each is refused.
fn mixtures(other: &Protected, expired: &Protected) -> Vec<(Manifest, &'static str)> {
    let with = |change: &dyn Fn(&mut Manifest)| {
        let mut manifest = second().manifest.clone();
        change(&mut manifest);
        manifest
    };
    let part = |from: &Protected, role: Role| {
        let part = from.manifest.artefact(role).expect("artefact").clone();
        with(&|manifest| {
            let mut artefacts = manifest.artefacts.iter_mut();
            let place = artefacts.find(|artefact| artefact.role == role);
            *place.expect("role") = part.clone();
        })
    };
    let (parameters, key) = ("deployment.parameters", "deployment.key");
    vec![
        (part(other, Role::Program), parameters),
        (part(other, Role::EvaluationKeys), parameters),
        (part(other, Role::PublicKey), parameters),
        (with(&|m| m.parameters = Digest([9; 32])), parameters),
        (part(first(), Role::PublicKey), key),
        (part(first(), Role::EvaluationKeys), key),
        (with(&|m| m.key_id = KeyId([9; 16])), key),
        (with(&|m| m.artefacts[0].bytes += 1), "artefact.length"),
        (expired.manifest.clone(), "deployment.expired"),
    ]
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    run(async {
        let (site, mut deployer) = device().await;
        first().deploy(&mut deployer).await;
        let other = Protected::new(Recipe {
            version: 3,
            security_bits: 192,
            ..FIRST
        });
        let expired = Protected::new(Recipe {
            version: 4,
            expires: 1000,
            ..FIRST
        });
        for (manifest, expected) in mixtures(&other, &expired) {
            // What was refused has left nothing behind.
            for parts in [second(), &other, &expired] {
                parts.send(&mut deployer).await;
            }
            let (status, found) = code(&deployer.activate(&manifest).await);
            assert_eq!((status, found.as_str()), (422, expected));
        }
        let damaged = [b"{".as_slice(), b"", &first().manifest.to_bytes()[1..]];
        for manifest in damaged {
            let path = paths::DEPLOYMENTS;
            let answer = deployer.call(Method::POST, path, manifest.to_vec()).await;
            assert_eq!(answer.status, 400);
        }
        let versions = versions(&mut deployer).await;
        assert_eq!(versions, [1], "the version before is active all the while");
        site.stop().await;
    });
}

#[test]
fn a_manifest_that_is_refused_for_good_leaves_no_artefact_behind() {
    run(async {
        let (site, mut deployer) = device().await;
        first().deploy(&mut deployer).await;
        second().send(&mut deployer).await;
        let mut mixed = second().manifest.clone();
        // Shares the program with the version that is active.
        mixed.artefacts[0] = first().manifest.artefacts[0].clone();
        mixed.key_id = KeyId([9; 16]);
        assert_eq!(code(&deployer.activate(&mixed).await).0, 422);
        let (one, two) = (&first().manifest, &second().manifest);
        assert_eq!(there(&mut deployer, one).await, [true; 3]);
        assert_eq!(there(&mut deployer, two).await, [true, false, false]);
        // One whose parts are not all here yet may be sent on.
        let early = deployer.activate(two).await;
        assert_eq!(code(&early), (409, "artefact.missing".to_string()));
        assert_eq!(there(&mut deployer, two).await, [true, false, false]);
        second().deploy(&mut deployer).await;
        site.stop().await;
    });
}

#[test]
fn artefacts_that_no_version_has_had_for_long_are_removed_at_the_start() {
    run(async {
        let (site, mut deployer) = device().await;
        first().deploy(&mut deployer).await;
        second().send(&mut deployer).await;
        let folder = site.world.folder.path().join("device/artefacts");
        let age = |protected: &Protected, count: usize| {
            let eight_days_ago = SystemTime::now() - 8 * Duration::from_secs(86_400);
            for artefact in &protected.manifest.artefacts[..count] {
                let file = std::fs::File::options()
                    .write(true)
                    .open(folder.join(artefact.digest.to_string()))
                    .expect("an artefact");
                file.set_modified(eight_days_ago).expect("aged");
            }
        };
        age(first(), 3);
        age(second(), 2);
        let (site, mut deployer) = restarted(site).await;
        let (one, two) = (&first().manifest, &second().manifest);
        assert_eq!(there(&mut deployer, one).await, [true; 3]);
        assert_eq!(there(&mut deployer, two).await, [false, false, true]);
        assert_eq!(deployer.get(paths::READY).await.status, 200);
        site.stop().await;
    });
}

#[test]
fn a_program_of_more_images_than_a_device_gathers_is_refused() {
    run(async {
        let (site, mut deployer) = device().await;
        let batch = Protected::new(Recipe {
            packing: Packing::Batch,
            ..FIRST
        });
        batch.send(&mut deployer).await;
        let answer = deployer.activate(&batch.manifest).await;
        let expected = (422, "deployment.shape".to_string());
        assert_eq!(code(&answer), expected, "{}", answer.problem());
        site.stop().await;
    });
}

#[test]
fn frames_are_answered_by_the_version_that_is_active_and_a_roll_back_returns_the_one_before() {
    run(async {
        let site = Site::bare(World::new(), |_| {}).await;
        let mut deployer = site.deployer();
        let none = deployer.call(Method::POST, paths::ROLLBACK, Vec::new());
        let none = code(&none.await);
        assert_eq!(none, (409, "deployment.no-previous".to_string()));
        let rounds = [(first(), FIRST), (second(), SECOND), (first(), FIRST)];
        for (round, (protected, recipe)) in rounds.into_iter().enumerate() {
            if round < 2 {
                site.deploy(protected).await;
            } else {
                let back = roll_back(&mut deployer, paths::ROLLBACK).await;
                assert_eq!(back, (1, DeploymentState::Active));
            }
            site.accept(round..round + 1).await;
            site.is_answered(round + 1).await;
            let last = site.world.vault.inferences().pop().expect("an inference");
            assert_eq!(last.deployment, protected.manifest.digest());
            assert_eq!(protected.label_of(&last), label(recipe, round));
        }
        // The switch outlives the process.
        let (site, mut deployer) = restarted(site).await;
        assert_eq!(versions(&mut deployer).await, [1, 2]);
        assert_eq!(deployer.get(paths::READY).await.status, 200);
        site.stop().await;
    });
}

/// An answer that got lost makes the vault ask again.
#[test]
fn a_roll_back_that_is_sent_again_does_not_return_to_the_version_that_was_left() {
    run(async {
        let (site, mut deployer) = device().await;
        first().deploy(&mut deployer).await;
        second().deploy(&mut deployer).await;
        let path = paths::roll_back(&second().manifest.digest());
        for _ in 0..2 {
            let back = roll_back(&mut deployer, &path).await;
            assert_eq!(back, (1, DeploymentState::Active));
        }
        let damaged = format!("{}?leave=xyz", paths::ROLLBACK);
        let answer = deployer.call(Method::POST, &damaged, Vec::new()).await;
        assert_eq!(answer.status, 400);
        assert_eq!(versions(&mut deployer).await, [1, 2]);
        site.stop().await;
    });
}

#[test]
fn only_the_vault_writes_to_a_device() {
    run(async {
        let (site, _) = device().await;
        let address = site.edge.addresses().device;
        let another_device = pki::identity(&site.world.authority, "cam-8");
        let mut other = Deployer::new(address, pki::DEVICE, &another_device);
        let digest = Digest::of(b"x");
        for (method, path) in [
            (Method::GET, paths::artefact(&digest)),
            (Method::GET, paths::DEPLOYMENTS.to_string()),
            (Method::POST, paths::DEPLOYMENTS.to_string()),
            (Method::POST, paths::ROLLBACK.to_string()),
        ] {
            let answer = other.call(method, &path, Vec::new()).await;
            assert_eq!(code(&answer), (403, "peer.forbidden".to_string()), "{path}");
        }
        assert_eq!(other.put(&digest, 0, b"x", 1).await.status, 403);
        assert_eq!(other.get(paths::LIVE).await.status, 200);
        let foreign = pki::authority();
        let stranger = pki::identity(&foreign, scuro_wire::tls::VAULT_NAME);
        let tls = stranger.client_config().expect("client");
        let mut client = scuro_wire::https::Client::new(&address.to_string(), pki::DEVICE, tls);
        let refused = client.send(Method::GET, paths::LIVE, &[], Vec::new()).await;
        assert!(matches!(refused, Err(WireError::Connection { .. })));
        site.stop().await;
    });
}

#[test]
fn pieces_above_the_limit_are_refused() {
    run(async {
        let (site, mut deployer) = device().await;
        let path = format!("{}?offset=0", paths::artefact(&Digest([1; 32])));
        let piece = vec![0; scuro_wire::limits::CHUNK_BYTES + 1];
        let answer = deployer.call(Method::PUT, &path, piece).await;
        assert_eq!(answer.status, 413);
        let answer = deployer.call(Method::PUT, &path, vec![1]).await;
        assert_eq!(
            code(&answer),
            (400, "edge.setting".to_string()),
            "no size is given"
        );
        let answer = deployer
            .call(Method::PUT, "/v1/artefacts/xyz?offset=0", vec![1])
            .await;
        assert_eq!(answer.status, 400);
        site.stop().await;
    });
}
