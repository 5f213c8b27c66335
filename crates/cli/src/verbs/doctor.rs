//! `scuro doctor`: is everything here that the other verbs need?

use serde_json::json;

use crate::context::Context;
use crate::data::{self, catalog};
use crate::errors::Failure;
use crate::machine::{Machine, memory_available};
use crate::output::Reply;
use crate::table::Table;
use crate::units;

/// Memory that the demo needs, generously.
const DEMO_MEMORY: u64 = 1 << 30;

/// Arguments of `scuro doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

struct Check {
    name: &'static str,
    good: bool,
    found: String,
    advice: &'static str,
}

/// Runs all checks.
pub(crate) fn run(_arguments: Arguments, context: &Context) -> Result<Reply, Failure> {
    let machine = Machine::detect();
    let mut checks = vec![
        kernel(&machine),
        cores(&machine),
        memory(),
        temporary_space(),
    ];
    checks.extend(catalog::SETS.iter().map(|set| data_set(context, set)));
    checks.push(random());
    let mut table = Table::new(&["check", "", "found", "advice"]);
    for check in &checks {
        let mark = if check.good {
            context.style.good("ok")
        } else {
            context.style.bad("note")
        };
        let advice = if check.good { "" } else { check.advice };
        table.row([check.name, &mark, &check.found, advice]);
    }
    let rows: Vec<_> = checks.iter().map(Check::to_json).collect();
    let data = json!({ "machine": machine, "checks": rows });
    let human = format!("{}\n\n{}", machine.summary(), table.render(context.style));
    Ok(Reply::new(data, human).with_rows(rows))
}

impl Check {
    fn to_json(&self) -> serde_json::Value {
        json!({ "check": self.name, "ok": self.good, "found": self.found,
            "advice": if self.good { None } else { Some(self.advice) } })
    }
}

fn kernel(machine: &Machine) -> Check {
    Check {
        name: "arithmetic kernel",
        good: machine.kernel != "portable",
        found: format!("{} (of {})", machine.kernel, kernels()),
        advice: "works, but a processor with AVX2 or AVX-512 IFMA is 3 to 10 times faster",
    }
}

fn kernels() -> String {
    let names = scuro_polyring::Kernel::available();
    names
        .iter()
        .map(|kernel| kernel.name())
        .collect::<Vec<_>>()
        .join(", ")
}

fn cores(machine: &Machine) -> Check {
    Check {
        name: "cores",
        good: machine.cores >= 2,
        found: machine.cores.to_string(),
        advice: "one core works; building is slow",
    }
}

fn memory() -> Check {
    let free = memory_available();
    Check {
        name: "memory",
        good: free.is_none_or(|bytes| bytes >= DEMO_MEMORY),
        found: free.map_or("unknown".into(), |bytes| {
            format!("{} free", units::bytes(bytes))
        }),
        advice: "the demo needs about 1 GiB",
    }
}

fn temporary_space() -> Check {
    let folder = std::env::temp_dir();
    Check {
        name: "temporary folder",
        good: tempfile::tempfile_in(&folder).is_ok(),
        found: folder.display().to_string(),
        advice: "set TMPDIR to a folder that can be written",
    }
}

fn data_set(context: &Context, set: &'static catalog::DataSet) -> Check {
    let place = data::locate(context, set.name);
    Check {
        name: set.name,
        good: place.is_some(),
        found: place.map_or("not found".into(), |folder| folder.display().to_string()),
        advice: "optional: `scuro data fetch NAME`; without it digits are generated",
    }
}

fn random() -> Check {
    let good = getrandom::fill(&mut [0u8; 32]).is_ok();
    Check {
        name: "system randomness",
        good,
        found: if good {
            "available".into()
        } else {
            "missing".into()
        },
        advice: "keys cannot be made without it",
    }
}
