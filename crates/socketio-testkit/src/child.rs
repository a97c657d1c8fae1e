//! Programs that run beside a test and never outlive it.

use std::{
    ffi::OsStr,
    io::{self, BufRead, BufReader, Write},
    process::{self, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

use crate::unexpected;

/// A program that runs beside a test, told and heard line by line. It is killed when this is dropped.
#[derive(Debug)]
pub struct Child {
    process: process::Child,
    lines: Receiver<String>,
}

impl Child {
    /// Starts a program. What it prints on standard error is shown with the test's.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start<A: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = A>) -> io::Result<Self> {
        Self::start_with(program, arguments, [])
    }

    /// Starts a program with further environment variables.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_with<'a, A: AsRef<OsStr>>(
        program: &str,
        arguments: impl IntoIterator<Item = A>,
        variables: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.args(arguments).envs(variables).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let (sender, lines) = mpsc::channel();
        if let Some(output) = process.stdout.take() {
            // Ends with the program's standard output.
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        Ok(Self { process, lines })
    }

    /// The next line of its standard output.
    ///
    /// # Errors
    /// When none comes within `patience`, or the output has ended.
    pub fn line(&mut self, patience: Duration) -> io::Result<String> {
        self.lines.recv_timeout(patience).map_err(|error| match error {
            RecvTimeoutError::Timeout => io::Error::new(io::ErrorKind::TimedOut, "the program says nothing"),
            RecvTimeoutError::Disconnected => io::ErrorKind::UnexpectedEof.into(),
        })
    }

    /// Writes a line to its standard input.
    ///
    /// # Errors
    /// When it does not read any more.
    pub fn tell(&mut self, line: &str) -> io::Result<()> {
        let input = self.process.stdin.as_mut().ok_or_else(|| unexpected("its standard input is closed"))?;
        writeln!(input, "{line}")?;
        input.flush()
    }

    /// Closes its standard input, so that it has no more lines to wait for.
    pub fn close_input(&mut self) {
        self.process.stdin = None;
    }

    /// Waits until it ends by itself. Returns whether it was content.
    ///
    /// # Errors
    /// When it does not end within `patience`.
    pub fn wait(&mut self, patience: Duration) -> io::Result<bool> {
        let until = Instant::now() + patience;
        loop {
            if let Some(status) = self.process.try_wait()? {
                return Ok(status.success());
            }
            if Instant::now() >= until {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the program does not end"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
