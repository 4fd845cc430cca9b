//! Volumes from seeds.

use mainstay_sim::volume::run::Case;

#[test]
fn seeds() {
    let from: u64 = std::env::var("FROM").ok().and_then(|it| it.parse().ok()).unwrap_or(0);
    let count: u64 = std::env::var("COUNT").ok().and_then(|it| it.parse().ok()).unwrap_or(50);
    let tell = std::env::var("TELL").is_ok();
    let mut failed = 0;
    for seed in from..from + count {
        let out = Case::from_seed(seed).run(tell);
        if tell { println!("{:#?}\n{}", Case::from_seed(seed), out.told.join("\n")); }
        if let Some(why) = out.broken { println!("{seed}: {why}"); failed += 1; }
    }
    println!("failed {failed}");
}
