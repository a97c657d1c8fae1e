//! Children with a deadline.
//!
//! A child gets a process group of its own; when its time is over, or when we no longer want it, the whole group is
//! ended by its id, so nothing that it started stays behind. Output is read line by line, shown or kept.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::Result;

/// One command to run to its end.
pub(crate) struct Job {
    command: Command,
    title: String,
    deadline: Duration,
    show: bool,
}

/// How a command ended.
pub(crate) struct Outcome {
    /// It ended in time with exit code 0.
    pub(crate) success: bool,
    /// It had to be ended.
    pub(crate) timed_out: bool,
    /// Everything it printed, standard output and standard error as they came.
    pub(crate) lines: Vec<String>,
    /// How long it ran.
    pub(crate) took: Duration,
}

impl Job {
    /// A command with a deadline of ten minutes, started at the top of the repository.
    pub(crate) fn new(program: impl AsRef<std::ffi::OsStr>) -> Job {
        let title = program.as_ref().to_string_lossy().into_owned();
        let mut command = Command::new(program);
        command.current_dir(crate::root()).stdin(Stdio::null());
        Job { command, title, deadline: Duration::from_secs(600), show: true }
    }

    /// A cargo command.
    pub(crate) fn cargo<'a>(args: impl IntoIterator<Item = &'a str>) -> Job {
        let mut job = Job::new(crate::cargo());
        job.title = "cargo".to_owned();
        job.args(args)
    }

    pub(crate) fn args<'a>(mut self, args: impl IntoIterator<Item = &'a str>) -> Job {
        for arg in args {
            self.title.push(' ');
            self.title.push_str(arg);
            self.command.arg(arg);
        }
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Job {
        self.command.env(name, value);
        self
    }

    pub(crate) fn dir(mut self, dir: &Path) -> Job {
        self.command.current_dir(dir);
        self
    }

    pub(crate) fn deadline(mut self, minutes: u64) -> Job {
        self.deadline = Duration::from_secs(minutes * 60);
        self
    }

    pub(crate) fn seconds(mut self, seconds: u64) -> Job {
        self.deadline = Duration::from_secs(seconds);
        self
    }

    /// Keeps the output instead of showing it.
    pub(crate) fn quiet(mut self) -> Job {
        self.show = false;
        self
    }

    /// Runs the command to its end, or to its deadline.
    pub(crate) fn run(mut self) -> Result<Outcome> {
        if self.show {
            println!("\n$ {}", self.title);
        }
        let begin = Instant::now();
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut group = Group::spawn(&mut self.command, &self.title)?;
        let (sender, receiver) = mpsc::channel();
        if let Some(out) = group.child.stdout.take() {
            forward(out, sender.clone());
        }
        if let Some(err) = group.child.stderr.take() {
            forward(err, sender.clone());
        }
        drop(sender);

        let mut lines = Vec::new();
        let mut timed_out = false;
        let mut ended: Option<(bool, Instant)> = None;
        loop {
            match receiver.recv_timeout(Duration::from_millis(50)) {
                Ok(line) => {
                    if self.show {
                        println!("{line}");
                    }
                    lines.push(line);
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
            if ended.is_none() {
                ended = group.child.try_wait()?.map(|status| (status.success(), Instant::now()));
            }
            // A grandchild that outlives the command keeps the pipes open: it gets two seconds.
            if ended.is_some_and(|(_, at)| at.elapsed() > Duration::from_secs(2)) {
                break;
            }
            if begin.elapsed() > self.deadline {
                timed_out = true;
                break;
            }
        }
        if timed_out {
            lines.push(format!("`{}` was ended after its deadline of {:?}", self.title, self.deadline));
            if self.show {
                println!("{}", lines.last().map_or("", String::as_str));
            }
        }
        let success = match ended {
            Some((success, _)) => success,
            None if timed_out => false,
            // Both pipes are closed, so the end is near; the deadline still holds.
            None => loop {
                if let Some(status) = group.child.try_wait()? {
                    break status.success();
                }
                if begin.elapsed() > self.deadline {
                    timed_out = true;
                    break false;
                }
                std::thread::sleep(Duration::from_millis(5));
            },
        };
        group.end();
        Ok(Outcome { success: success && !timed_out, timed_out, lines, took: begin.elapsed() })
    }
}

/// Sends every line of a stream, whatever bytes it has.
fn forward(stream: impl Read + Send + 'static, sender: mpsc::Sender<String>) {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            while line.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
                line.pop();
            }
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                break;
            }
            line.clear();
        }
    });
}

/// A child that leads a process group; the group ends with this value.
struct Group {
    child: Child,
}

impl Group {
    fn spawn(command: &mut Command, title: &str) -> Result<Group> {
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(command, 0);
        let child = command.spawn().map_err(|error| format!("cannot start `{title}`: {error}"))?;
        Ok(Group { child })
    }

    fn end(&mut self) {
        // The id stays ours until the child is reaped; members of the group keep it in use after that.
        #[cfg(unix)]
        {
            let group = format!("-{}", self.child.id());
            let _ = Command::new("sh")
                .args(["-c", "kill -s KILL -- \"$0\" 2>/dev/null", &group])
                .stdin(Stdio::null())
                .status();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end();
    }
}

/// A server that a suite talks to. It ends when this value is dropped, and by itself when our end of its standard
/// input closes, so it does not outlive us either.
pub(crate) struct Server {
    group: Group,
    /// Where it listens, on 127.0.0.1.
    pub(crate) port: u16,
    log: mpsc::Receiver<String>,
}

impl Server {
    /// Starts a server and waits for its line `listening on PORT`.
    pub(crate) fn start(program: &str, args: &[String]) -> Result<Server> {
        let mut command = Command::new(program);
        command.args(args).args(["--port", "0", "--exit-with-stdin"]).current_dir(crate::root());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut group = Group::spawn(&mut command, program)?;
        let (sender, log) = mpsc::channel();
        if let Some(out) = group.child.stdout.take() {
            forward(out, sender.clone());
        }
        if let Some(err) = group.child.stderr.take() {
            forward(err, sender);
        }
        let begin = Instant::now();
        let mut said = Vec::new();
        while begin.elapsed() < Duration::from_secs(30) {
            match log.recv_timeout(Duration::from_millis(100)) {
                Ok(line) => match line.strip_prefix("listening on ").and_then(|port| port.trim().parse().ok()) {
                    Some(port) => return Ok(Server { group, port, log }),
                    None => said.push(line),
                },
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
        Err(format!("`{program}` did not say `listening on PORT`; it said: {}", said.join("\n")).into())
    }

    /// True while the process lives.
    pub(crate) fn alive(&mut self) -> bool {
        matches!(self.group.child.try_wait(), Ok(None))
    }

    /// What the server printed since the last time.
    pub(crate) fn said(&self) -> Vec<String> {
        self.log.try_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_takes_too_long_is_ended_with_its_children() {
        let marker = std::env::temp_dir().join(format!("xtask-group-{}", std::process::id()));
        let script = format!("(sleep 3; : > {}) & echo started; wait", marker.display());
        let outcome = Job::new("sh").args(["-c", &script]).seconds(1).quiet().run().unwrap();
        assert!(outcome.timed_out && !outcome.success);
        assert_eq!(outcome.lines.first().map(String::as_str), Some("started"));
        std::thread::sleep(Duration::from_secs(3));
        assert!(!marker.exists(), "the grandchild lived on");
    }

    #[test]
    fn the_exit_code_and_both_streams_are_kept() {
        let outcome = Job::new("sh").args(["-c", "echo out; echo err >&2; exit 3"]).seconds(10).quiet().run().unwrap();
        assert!(!outcome.success && !outcome.timed_out);
        let mut lines = outcome.lines;
        lines.sort();
        assert_eq!(lines, ["err", "out"]);
    }
}
