//! Holders in processes of their own, killed with -9 while they have a query.
//!
//! A victim is this test's own binary, started again with [`VICTIM`] set.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use scuro_testkit::process::Victim;

use crate::support::{
    User, coordinator, eventually, holder, holder_options, holder_with, program, run,
};

/// Number of the holder that a victim is.
const VICTIM: &str = "SCURO_TEST_VICTIM";

/// Not a test of its own: the process that the others kill.
#[test]
fn the_victim() {
    let Ok(number) = std::env::var(VICTIM) else {
        return;
    };
    let number = number.parse().expect("a number");
    run(async {
        let holder = holder_with(holder_options(number, &program(number))).await;
        let mut out = std::io::stdout().lock();
        writeln!(out, "ready {}", holder.address).expect("heard");
        out.flush().expect("heard");
        drop(out);
        std::future::pending::<()>().await;
    });
}

/// A holder in a process of its own.
struct Process {
    victim: Victim,
    address: SocketAddr,
}

impl Process {
    fn start(number: u64) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this binary"));
        command.args(["--exact", "crash::the_victim", "--nocapture"]);
        command.arg("--test-threads=1");
        command.env(VICTIM, number.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut victim = Victim::start(command.stderr(Stdio::null()));
        // The test harness writes its own words before.
        let mut ready = victim
            .words()
            .filter_map(|line| Some(line.split_once("ready ")?.1.to_string()));
        let ready = ready.next().expect("a holder that starts");
        let address = ready.parse().expect("an address");
        Self { victim, address }
    }

    /// It takes connections, as the system does that for it, and nothing else.
    fn freeze(&self) {
        let id = self.victim.id().to_string();
        let sent = Command::new("kill").args(["-STOP", &id]).status();
        assert!(sent.expect("sent").success());
    }
}

#[test]
fn two_of_five_holders_killed_with_a_query_are_left_out_and_the_rest_answer() {
    let user = User::new(1);
    run(async {
        let mut doomed = [Process::start(4), Process::start(5)];
        let mut others = Vec::new();
        for number in 1..=3 {
            others.push(holder(number).await);
        }
        let all = [
            others[0].address,
            doomed[0].address,
            others[1].address,
            doomed[1].address,
            others[2].address,
        ];
        let coordinator = coordinator(&all).await;
        let mut caller = coordinator.caller();
        user.upload(&mut caller).await;
        assert_eq!(user.ask(&mut caller, 1).await, []);
        doomed.iter().for_each(Process::freeze);
        let asked = async {
            let mut caller = coordinator.caller();
            user.ask(&mut caller, 2).await
        };
        let killed = async {
            eventually("the others have answered", || async {
                let metrics = coordinator.metrics().await;
                let answered = |address: &SocketAddr| {
                    let series = "scuro_ensemble_holder_answers_total";
                    let line = format!(r#"{series}{{holder="{address}",outcome="ok"}} 2"#);
                    metrics.contains(&line)
                };
                others.iter().all(|holder| answered(&holder.address))
            })
            .await;
            doomed.iter_mut().for_each(|process| process.victim.kill());
        };
        let (left_out, ()) = tokio::join!(asked, killed);
        let gone = |address: SocketAddr| (address.to_string(), "holder.connection".to_string());
        assert_eq!(left_out, [gone(all[1]), gone(all[3])]);
        // And from now on, without anybody waiting for them.
        assert_eq!(user.ask(&mut caller, 3).await.len(), 2);
    });
}
