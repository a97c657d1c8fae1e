//! `sbom`: a bill of materials in CycloneDX 1.5 (ECMA-424), as JSON on standard output or in a file.
//!
//! What is in it comes from the lock file: every crate with version, source and checksum, and who needs whom. Licences come from
//! the manifests, through `cargo metadata`. It holds no time and no serial number, so the same lock file gives the same bytes.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::Result;

pub(crate) fn main(args: &[String]) -> Result<bool> {
    let mut args = args.to_vec();
    let out = crate::take_option(&mut args, "--out")?;
    crate::nothing_left(&args)?;
    let lock = std::fs::read_to_string(crate::root().join("Cargo.lock"))?;
    let text = format!("{:#}\n", bill(&lock, &licences()?)?);
    match out {
        Some(file) => std::fs::write(file, text)?,
        None => print!("{text}"),
    }
    Ok(true)
}

/// The licence of every crate, by name and version.
fn licences() -> Result<BTreeMap<(String, String), String>> {
    let metadata = cargo_metadata::MetadataCommand::new()
        .manifest_path(crate::root().join("Cargo.toml"))
        .other_options(["--locked".to_owned(), "--all-features".to_owned()])
        .exec()?;
    let of = |package: cargo_metadata::Package| {
        Some(((package.name.to_string(), package.version.to_string()), package.license?.replace('/', " OR ")))
    };
    Ok(metadata.packages.into_iter().filter_map(of).collect())
}

/// A crate of the lock file.
#[derive(Debug, PartialEq, Eq)]
struct Locked {
    name: String,
    version: String,
    source: Option<String>,
    checksum: Option<String>,
    needs: Vec<String>,
}

impl Locked {
    fn url(&self) -> String {
        format!("pkg:cargo/{}@{}", self.name, self.version.replace('+', "%2B"))
    }
}

fn read(lock: &str) -> Result<Vec<Locked>> {
    let lock: toml::Table = toml::from_str(lock)?;
    let packages = lock.get("package").and_then(toml::Value::as_array).ok_or("the lock file has no packages")?;
    let text = |package: &toml::Value, key: &str| package.get(key).and_then(toml::Value::as_str).map(str::to_owned);
    let read = |package: &toml::Value| {
        let needs = package.get("dependencies").and_then(toml::Value::as_array).into_iter().flatten();
        Some(Locked {
            name: text(package, "name")?,
            version: text(package, "version")?,
            source: text(package, "source"),
            checksum: text(package, "checksum"),
            needs: needs.filter_map(|need| need.as_str().map(str::to_owned)).collect(),
        })
    };
    packages.iter().map(|package| read(package).ok_or_else(|| "a package without name or version".into())).collect()
}

fn bill(lock: &str, licences: &BTreeMap<(String, String), String>) -> Result<Value> {
    let crates = read(lock)?;
    let component = |locked: &Locked| {
        let mut component = json!({
            "type": "library",
            "bom-ref": locked.url(),
            "name": locked.name,
            "version": locked.version,
            "purl": locked.url(),
        });
        if let Some(checksum) = &locked.checksum {
            component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
        }
        if let Some(licence) = licences.get(&(locked.name.clone(), locked.version.clone())) {
            component["licenses"] = json!([{ "expression": licence }]);
        }
        if locked.source.is_none() {
            component["properties"] = json!([{ "name": "cargo:workspace", "value": "member" }]);
        }
        component
    };
    // `name`, or `name version` where there are several.
    let find = |need: &str| {
        let mut words = need.split(' ');
        let (name, version) = (words.next().unwrap_or_default(), words.next());
        let fits = |locked: &&Locked| locked.name == name && version.is_none_or(|version| locked.version == version);
        crates.iter().find(fits).map(Locked::url).ok_or_else(|| format!("nobody is called `{need}`"))
    };
    let dependencies: Vec<Value> = crates
        .iter()
        .map(|locked| {
            let needs: std::result::Result<Vec<String>, String> = locked.needs.iter().map(|need| find(need)).collect();
            Ok(json!({ "ref": locked.url(), "dependsOn": needs? }))
        })
        .collect::<Result<_>>()?;
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": { "type": "application", "bom-ref": "workspace", "name": "socketio" },
        },
        "components": crates.iter().map(component).collect::<Vec<_>>(),
        "dependencies": dependencies,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_locked_crate_is_listed_with_checksum_licence_and_needs() {
        let lock = std::fs::read_to_string(crate::root().join("Cargo.lock")).unwrap();
        let text = bill(&lock, &licences().unwrap()).unwrap().to_string();
        let bill: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&bill["bomFormat"], &bill["specVersion"]), (&json!("CycloneDX"), &json!("1.5")));
        let listed: Vec<&Value> = bill["components"].as_array().unwrap().iter().collect();
        assert_eq!(listed.len(), lock.matches("[[package]]").count());
        let mut without = Vec::new();
        for component in &listed {
            let (name, version) = (component["name"].as_str().unwrap(), component["version"].as_str().unwrap());
            assert!(lock.contains(&format!("name = \"{name}\"\nversion = \"{version}\"\n")), "{component}");
            let member = component.get("properties").is_some();
            match component["hashes"][0]["content"].as_str() {
                Some(checksum) => assert!(checksum.len() == 64 && lock.contains(checksum) && !member, "{component}"),
                None => assert!(member, "{component}"),
            }
            if component.get("licenses").is_none() {
                without.push(name);
            }
        }
        assert_eq!(without, [""; 0], "crates without a licence");
        let references: Vec<&Value> = listed.iter().map(|component| &component["bom-ref"]).collect();
        for dependency in bill["dependencies"].as_array().unwrap() {
            assert!(references.contains(&&dependency["ref"]));
            for need in dependency["dependsOn"].as_array().unwrap() {
                assert!(references.contains(&need), "{need}");
            }
        }
    }

    #[test]
    fn of_two_versions_the_right_one_is_needed() {
        let lock = "[[package]]\nname = \"a\"\nversion = \"1.0.0\"\n\n[[package]]\nname = \"a\"\nversion = \"2.0.0\"\n\n\
                    [[package]]\nname = \"b\"\nversion = \"0.1.0+x\"\ndependencies = [\"a 2.0.0\"]\n";
        let bill = bill(lock, &BTreeMap::new()).unwrap();
        assert_eq!(bill["dependencies"][2]["dependsOn"], json!(["pkg:cargo/a@2.0.0"]));
        assert_eq!(bill["components"][2]["purl"], "pkg:cargo/b@0.1.0%2Bx");
        let broken = lock.replace("a 2.0.0", "c");
        assert!(super::bill(&broken, &BTreeMap::new()).is_err());
    }
}
