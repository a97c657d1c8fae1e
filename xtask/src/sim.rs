//! Random schedules against a model: many more of them than the tests run, or one again by its seed.

use std::time::Instant;

use crate::Result;
use crate::process::Job;
use crate::report::{Report, count};

/// Name, package, which tests of it, and how many schedules are run when nobody says how many.
const MODELS: &[Model] = &[
    ("recovery", "socketio-adapter", &["--test", "recovery_model"], 100_000),
    ("recovery-server", "socketio", &["--test", "recovery_schedules"], 5_000),
    ("cluster", "socketio-redis", &["--lib", "simulated"], 100_000),
];

pub(crate) fn main(args: &[String]) -> Result<bool> {
    let mut args = args.to_vec();
    let seed: Option<u64> = crate::take_option(&mut args, "--seed")?.map(|seed| seed.parse()).transpose()?;
    let seeds: Option<u64> = crate::take_option(&mut args, "--seeds")?.map(|seeds| seeds.parse()).transpose()?;
    let wanted = (!args.is_empty()).then(|| args.remove(0));
    crate::nothing_left(&args)?;
    let models = chosen(wanted.as_deref(), seed)?;
    let begin = Instant::now();
    let mut report = Report::default();
    for (name, package, tests, usual) in models {
        let args = [&["test", "--release", "--locked", "-p", package], *tests, &["--", "--nocapture"]].concat();
        let job = match seed {
            Some(seed) => Job::cargo(args).env("SIM_SEED", &seed.to_string()),
            None => Job::cargo(args).env("SIM_SEEDS", &seeds.unwrap_or(*usual).to_string()),
        };
        let outcome = job.deadline(60).run()?;
        report.add(name, count(&outcome.lines).at_least_one_failure_unless(outcome.success), outcome.took);
    }
    report.print(begin.elapsed());
    Ok(report.total().failed == 0)
}

type Model = (&'static str, &'static str, &'static [&'static str], u64);

/// The models to run: all, or the one of that name. A seed means one schedule of one model.
fn chosen(wanted: Option<&str>, seed: Option<u64>) -> Result<Vec<&'static Model>> {
    let models: Vec<&Model> = MODELS.iter().filter(|(name, ..)| wanted.is_none_or(|wanted| wanted == *name)).collect();
    let names = || MODELS.iter().map(|(name, ..)| *name).collect::<Vec<_>>().join(", ");
    match (models.is_empty(), wanted, seed) {
        (true, ..) => Err(format!("there is no model `{}`: {}", wanted.unwrap_or_default(), names()).into()),
        (false, None, Some(_)) => Err(format!("a seed of which model? {}", names()).into()),
        _ => Ok(models),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_found_by_name() {
        let names = |wanted, seed| {
            let chosen = chosen(wanted, seed).map_err(|error| error.to_string())?;
            Ok::<_, String>(chosen.into_iter().map(|(name, ..)| *name).collect::<Vec<_>>())
        };
        assert_eq!(names(None, None).unwrap(), ["recovery", "recovery-server", "cluster"]);
        assert_eq!(names(Some("recovery"), Some(7)).unwrap(), ["recovery"]);
        assert!(names(Some("nothing"), None).unwrap_err().contains("no model `nothing`"));
        assert!(names(None, Some(7)).unwrap_err().contains("of which model"));
    }
}
