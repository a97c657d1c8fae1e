//! Words that must not be committed: paths of the machine that somebody worked on, hosts of package registries in
//! lock files.

use crate::Result;
use crate::process::Job;

/// Reads every file that git knows and returns `file:line: what is wrong`.
pub(crate) fn check() -> Result<Vec<String>> {
    let listed = Job::new("git").args(["ls-files", "-z"]).quiet().run()?;
    if !listed.success {
        return Err(format!("git ls-files: {}", listed.lines.join("\n")).into());
    }
    let mut wrong = Vec::new();
    for name in listed.lines.join("\n").split('\0').filter(|name| !name.is_empty()) {
        // A file that git knows and somebody just deleted is no fault of the words in it.
        let Ok(bytes) = std::fs::read(crate::root().join(name)) else { continue };
        wrong.extend(in_file(name, &bytes));
    }
    Ok(wrong)
}

fn in_file(name: &str, bytes: &[u8]) -> Vec<String> {
    // A corpus holds arbitrary bytes; a picture has no words.
    if bytes.contains(&0) {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(bytes);
    let mut wrong = Vec::new();
    // Put together here, or this file would find itself.
    let folders = [concat!("/", "work", "/"), concat!("/", "root", "/")];
    let hosts = [concat!("registry.", "npmjs.org"), concat!("files.", "pythonhosted.org")];
    for (number, line) in text.lines().enumerate() {
        for folder in folders {
            if line.match_indices(folder).any(|(at, _)| begins_a_path(&line[..at])) {
                wrong.push(format!("{name}:{}: a path of one machine, `{folder}`", number + 1));
            }
        }
        for host in hosts {
            if line.contains(host) {
                wrong.push(format!("{name}:{}: the host of a package registry, `{host}`", number + 1));
            }
        }
    }
    wrong
}

/// A path begins at the start of a word: behind a space, a quote or nothing. The same letters within a URL are none.
fn begins_a_path(before: &str) -> bool {
    match before.chars().next_back() {
        None => true,
        Some(c) => !(c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '/' | '}' | '*' | '~')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_paths_and_registry_hosts_are_found() {
        check(&format!("see {}main", concat!("/", "work", "/")), 1);
        check(&format!("PATH={}.cargo/bin", concat!("/", "root", "/")), 1);
        check(&format!("\"{}x\"\nfine\n'{}y'", concat!("/", "work", "/"), concat!("/", "root", "/")), 2);
        check(&format!("\"resolved\": \"https://{}/ws\"", concat!("registry.", "npmjs.org")), 1);
        check("https://example.org/root/certificates and ./work/", 0);
        check("the network/ folder, a framework/", 0);

        #[track_caller]
        fn check(text: &str, want: usize) {
            let wrong = in_file("a.md", text.as_bytes());
            assert_eq!(wrong.len(), want, "{text:?}: {wrong:?}");
        }
    }
}
