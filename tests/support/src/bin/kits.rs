//! `kits [NAME...]`: builds kits into `kits/NAME.wasm` in cargo's target folder, all of them without a name.
//!
//! Prints what came out. Ends with 1 when one cannot be built or is no component; the others are built still.
//! Building all of them, it also removes what else lies there under the name of a kit: a host loads every
//! `.wasm` of the folder, and one that was renamed would be loaded twice.

use std::path::Path;
use std::process::ExitCode;

use mainstay_test_support::kits;

fn main() -> ExitCode {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    if asked.iter().any(|arg| arg.starts_with('-')) {
        println!(
            "usage: kits [NAME...]\nBuilds the kits named, or all of them, into kits/NAME.wasm in cargo's target folder."
        );
        return if asked == ["--help"] { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let names = if asked.is_empty() {
        match kits::names() {
            Ok(names) => names,
            Err(error) => {
                eprintln!("kits: {error}");
                return ExitCode::FAILURE;
            }
        }
    } else {
        asked.clone()
    };
    let mut failed = false;
    let mut folder = None;
    for name in &names {
        match kits::build(name) {
            Ok(path) => {
                let bytes = path.metadata().map_or(0, |metadata| metadata.len());
                println!("{name:12} {bytes:>9} bytes  {}", path.display());
                folder = path.parent().map(Path::to_owned);
            }
            Err(error) => {
                eprintln!("kits: {name}: {error}");
                failed = true;
            }
        }
    }
    if asked.is_empty()
        && let Some(folder) = folder
        && let Err(error) = remove_others(&folder, &names)
    {
        eprintln!("kits: {}: {error}", folder.display());
        failed = true;
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn remove_others(folder: &Path, names: &[String]) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let is_kit = path.extension().is_some_and(|extension| extension == "wasm");
        let is_known = path.file_stem().is_some_and(|stem| names.iter().any(|name| stem == name.as_str()));
        if is_kit && !is_known {
            std::fs::remove_file(&path)?;
            println!("removed {}: there is no such kit any more", path.display());
        }
    }
    Ok(())
}
