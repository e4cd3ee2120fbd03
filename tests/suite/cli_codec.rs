//! The commands about codecs, as scripts see them.

use std::process::Command;

use serde_json::Value;

use crate::cli::{Bench, kv, words};

/// Lines of text that compress, and some bytes that do not.
fn mixed(len: usize) -> Vec<u8> {
    let mut state = 7u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let mut out = Vec::new();
    for i in 0.. {
        if out.len() >= len {
            break;
        }
        out.extend_from_slice(
            format!("line {i} of a log that says much the same each time, status {}\n", i % 7).as_bytes(),
        );
        if i % 50 == 0 {
            out.extend((0..600).map(|_| noise()));
        }
    }
    out.truncate(len);
    out
}

#[test]
fn the_list_names_every_codec_with_its_levels() {
    let bench = Bench::new();
    let document = bench.json(&["codec", "list", "--json"]);
    let codecs = document["codecs"].as_array().unwrap();
    assert_eq!(codecs.len(), 6);
    // Each codec of the list is one that families take, at both ends of its levels.
    bench.ok(&["create", "db"]);
    for codec in codecs {
        let name = codec["name"].as_str().unwrap();
        let levels = [&codec["level_min"], &codec["level_max"]];
        for level in levels.into_iter().filter_map(Value::as_i64) {
            let codec = format!("{name}:{level}");
            bench.ok(&["cf", "create", "db", &codec.replace(':', "_"), "--codec", &codec]);
        }
        bench.ok(&["cf", "create", "db", name, "--codec", name]);
    }
    assert_eq!(bench.text(&["codec", "list", "--format", "csv"]).lines().count(), 7);
}

#[test]
fn a_bench_measures_the_same_blocks_under_every_codec() {
    let bench = Bench::new();
    bench.write("app.log", &mixed(150_000));
    bench.write("words.kv", &kv(words(2_000)));
    let args = ["codec", "bench", "app.log", "words.kv", "--block-size", "4KiB,16KiB", "--timeout", "120s", "--json"];
    let codecs = ["--codecs", "none,lz4,snappy,zstd:1..3,brotli:1,zstd:1", "--dictionary", "8KiB"];
    let document = bench.json(&[&args[..], &codecs].concat());
    assert_eq!(document["schema"], "lignite.codec-bench/1");
    assert_eq!(document["records"], 2_000);
    assert_eq!(document["complete"], true);
    let rows = document["rows"].as_array().unwrap();
    // Seven codecs, four of them with a dictionary too, at two block sizes.
    assert_eq!(rows.len(), 2 * (7 + 4));
    for size in [4096, 16384] {
        let of: Vec<&Value> = rows.iter().filter(|r| r["block_size"] == size).collect();
        for row in &of {
            assert_eq!(row["blocks"], of[0]["blocks"]);
            assert_eq!(row["raw_bytes"], of[0]["raw_bytes"]);
            assert!(row["decode_p50_nanos"].as_u64() <= row["decode_p99_nanos"].as_u64());
        }
        let stored = |codec: &str, with: bool| {
            let row = of.iter().find(|r| r["codec"] == codec && r["dictionary_bytes"].is_u64() == with).unwrap();
            row["stored_bytes"].as_u64().unwrap()
        };
        assert_eq!(stored("none", false), of[0]["raw_bytes"].as_u64().unwrap());
        assert!(stored("zstd:3", false) < stored("lz4", false) && stored("lz4", false) < stored("none", false));
        assert!(size != 4096 || stored("zstd:3", true) < stored("zstd:3", false));
        // The smallest is never beaten.
        let smallest = of.iter().map(|r| r["stored_bytes"].as_u64().unwrap()).min().unwrap();
        assert!(size != 16384 || of.iter().any(|r| r["stored_bytes"] == smallest && r["pareto"] == true));
    }
}

#[test]
fn a_bench_ends_in_time_with_the_same_sample_for_all() {
    let bench = Bench::new();
    bench.write("app.log", &mixed(4_000_000));
    // The binary is built by the first test that runs it.
    bench.ok(&["--version"]);
    let begun = std::time::Instant::now();
    let document =
        bench.json(&["codec", "bench", "app.log", "--codecs", "lz4,brotli:11", "--timeout", "400ms", "--json"]);
    assert!(begun.elapsed().as_secs() < 30);
    assert_eq!(document["complete"], false);
    let rows = document["rows"].as_array().unwrap();
    assert!(rows[0]["blocks"].as_u64().unwrap() > 0 && rows[0]["raw_bytes"] == rows[1]["raw_bytes"], "{document}");
}

#[test]
fn what_cannot_be_measured_is_said() {
    let bench = Bench::new();
    bench.write("app.log", &mixed(40_000));
    bench.write("tiny", b"x");
    bench.write("empty", b"");
    bench.write("bad.kv", b"\xff\xff\xff\xff\xff\xff\xff\xff");
    bench.write("half.kv.zst", &[0x28, 0xb5, 0x2f, 0xfd, 0x04]);
    for (code, args) in [
        (5, "missing"),
        (2, "."),
        (2, "empty"),
        (2, "bad.kv"),
        (2, "half.kv.zst"),
        (0, "tiny"),
        (0, "tiny empty"),
        (2, "tiny --dictionary 4KiB"),
        (2, "app.log --codecs snappy --dictionary 4KiB"),
        (2, "app.log --codecs zstd:9..1"),
        (2, "app.log --codecs zstd:1..99"),
        (2, "app.log --codecs lz4+dict:1"),
        (6, "app.log --codecs lz4,lzma"),
        (6, "app.log --codecs"),
        (2, "app.log --block-size 100"),
        (2, "app.log --block-size 4GiB"),
        (2, "app.log --sample 0%"),
        (2, "app.log --timeout 30"),
        (2, "app.log --chart -"),
        (7, "app.log --chart tiny"),
        (5, "app.log --chart nowhere/chart.html"),
        (0, "app.log --codecs lz4 --sample 1% --block-size 512,16MiB"),
    ] {
        let mut args: Vec<&str> = ["codec", "bench"].into_iter().chain(args.split(' ')).collect();
        if args.last() == Some(&"--codecs") {
            args.push("");
        }
        bench.exits(code, &args);
    }
    assert_eq!(bench.read("tiny"), b"x");
}

#[test]
fn a_chart_is_one_file_with_every_candidate() {
    let bench = Bench::new();
    bench.write("a<b>&.log", &mixed(40_000));
    let args = ["codec", "bench", "a<b>&.log", "--codecs", "lz4,zstd:1..4", "--chart", "chart.html"];
    bench.ok(&args);
    let page = String::from_utf8(bench.read("chart.html")).unwrap();
    assert_eq!(page.matches("data-decode-nanos=").count(), 5);
    assert!(page.contains("a&lt;b&gt;&amp;.log") && !page.contains("a<b>"));
    assert!(!page.contains("<script") && page.contains("default-src 'none'"));
    bench.exits(7, &args);
    bench.ok(&[&args[..], &["--yes"]].concat());
}

// On a database.

/// A family `words` of sentences in one table, and the same again in memory only.
fn with_words(n: u32) -> Bench {
    let bench = Bench::new();
    bench.ok(&["create", "db"]);
    bench.ok(&["cf", "create", "db", "words", "--codec", "lz4", "--dictionary", "none"]);
    bench.write("words.kv", &kv(words(n)));
    bench.ok(&["import", "db", "--cf", "words", "--input", "words.kv", "-q"]);
    bench.ok(&["compact", "db", "-q"]);
    bench
}

fn export(bench: &Bench) -> Vec<u8> {
    bench.ok(&["export", "db", "--cf", "words", "--format", "kv"])
}

#[test]
fn a_comparison_changes_nothing_and_marks_what_is_in_force() {
    let bench = with_words(6_000);
    let before = bench.json(&["tree", "db", "--tables", "--json"]);
    let document = bench.json(&["codec", "compare", "db", "--cf", "words", "--timeout", "120s", "--json"]);
    let rows = document["rows"].as_array().unwrap();
    assert!(rows.len() > 20 && document["complete"] == true, "{document}");
    for row in rows {
        // What the family would take is the same share of it as of the sample.
        let share = row["stored_bytes"].as_f64().unwrap() / row["raw_bytes"].as_f64().unwrap();
        let predicted = share * document["raw_bytes"].as_f64().unwrap() + document["filter_bytes"].as_f64().unwrap();
        assert!((row["predicted_bytes"].as_f64().unwrap() - predicted).abs() <= 2.0, "{row}");
    }
    assert!(rows.iter().any(|r| r["pareto"] == true));
    let text = bench.text(&["codec", "compare", "db", "--cf", "words", "--chart", "chart.html", "--timeout", "120s"]);
    assert!(text.lines().any(|line| line.starts_with("lz4 ") && line.ends_with("current")), "{text}");
    let page = String::from_utf8(bench.read("chart.html")).unwrap();
    assert!(page.contains("(current)") && page.contains("zstd:3+dict 4K"));
    let one = ["codec", "compare", "db", "--cf", "words", "--codecs", "zstd:1..2", "--block-size", "4KiB", "--json"];
    assert_eq!(bench.json(&one)["rows"].as_array().unwrap().len(), 2);
    let output = bench.exits(0, &[&one[..], &["--progress", "json"]].concat());
    let said = String::from_utf8(output.stderr).unwrap();
    let last: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!((&last["command"], &last["finished"]), (&"codec compare".into(), &true.into()), "{said}");
    assert_eq!((&last["done_steps"], &last["total_steps"]), (&2.into(), &2.into()), "{said}");
    assert!(last.get("done_bytes").is_none(), "{said}");
    assert_eq!(bench.json(&["tree", "db", "--tables", "--json"]), before);
}

#[test]
fn advice_ends_in_a_command_that_brings_what_it_promised() {
    let bench = with_words(20_000);
    let before = export(&bench);
    let args = ["codec", "advise", "db", "--cf", "words", "--objective", "decode:1s", "--timeout", "120s"];
    let advice = bench.json(&[&args[..], &["--json"]].concat());
    assert!(advice["reasons"].as_array().is_some_and(|r| !r.is_empty()));
    let command = advice["command"].as_str().unwrap();
    // Not the same one: --codec or --bottom-codec goes by the measured speed of the encoder.
    let text = bench.text(&args);
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("  lignite recompress db --cf words --") && last.contains("-codec zstd:"), "{text}");
    let words: Vec<&str> = command.split(' ').skip(1).collect();
    let done = bench.json(&[&words[..], &["--json"]].concat());
    assert_eq!(done["schema"], "lignite.recompress/1");
    let (promised, found) = (advice["predicted_bytes"].as_f64().unwrap(), done["bytes_after"].as_f64().unwrap());
    assert!(found > 0.8 * promised && found < 1.2 * promised + 4096.0, "{promised} promised, {found} found");
    assert_eq!(export(&bench), before);
    bench.ok(&["check", "db", "--deep"]);
}

#[test]
fn a_family_moves_to_another_codec_and_back_with_every_record() {
    let bench = with_words(6_000);
    let before = export(&bench);
    bench.ok(&["codec", "train", "db", "--cf", "words", "--size", "4KiB", "--output", "words.dict"]);
    bench.exits(7, &["codec", "train", "db", "--cf", "words", "--size", "4KiB", "--output", "words.dict"]);
    for (codec, more) in [
        ("zstd:3+dict:8KiB", vec!["--block-size", "4KiB"]),
        ("zstd:1", vec!["--dictionary", "words.dict", "--rate", "50MB/s"]),
        ("brotli:1", vec!["--dictionary", "none", "--workers", "3"]),
        ("lz4hc:9", vec!["--block-size", "auto", "--dictionary", "auto:16KiB"]),
        ("none", vec![]),
    ] {
        let args = [&["recompress", "db", "--cf", "words", "--codec", codec, "--json"][..], &more].concat();
        let dry_run = || {
            let before = bench.json(&["tree", "db", "--tables", "--json"]);
            let plan = bench.json(&[&args[..], &["--dry-run"]].concat());
            assert_eq!(bench.json(&["tree", "db", "--tables", "--json"]), before, "{codec}: a dry run writes nothing");
            assert!(plan["dry_run"] == true && plan["bytes_after"].is_null(), "{plan}");
            (plan["tables_rewritten"].clone(), plan["tables_kept"].clone())
        };
        assert_eq!(dry_run(), (Value::from(1), Value::from(0)), "{codec}");
        let done = bench.json(&args);
        assert_eq!((&done["tables_rewritten"], &done["tables_kept"]), (&Value::from(1), &Value::from(0)), "{done}");
        assert_eq!(dry_run(), (Value::from(0), Value::from(1)), "{codec}");
        assert_eq!(export(&bench), before, "{codec}");
        bench.ok(&["check", "db", "--deep"]);
        if !more.contains(&"words.dict") {
            let again = bench.json(&args);
            assert_eq!(
                (&again["tables_rewritten"], &again["tables_kept"]),
                (&Value::from(0), &Value::from(1)),
                "{again}"
            );
        }
    }
    bench.ok(&["recompress", "db", "--cf", "words", "--objective", "smallest"]);
    let stats = bench.json(&["stats", "db", "--cf", "words", "--json"]);
    let promise = &stats["families"][0]["compression"];
    assert!(promise["stored_bytes"].as_u64() > Some(0) || promise["promised_tables"] == 0, "{promise}");
    assert_eq!(export(&bench), before);
}

#[test]
fn what_cannot_be_done_to_a_family_is_said() {
    let bench = with_words(500);
    bench.ok(&["cf", "create", "db", "empty"]);
    bench.write("noise", b"7");
    // A trained dictionary by its first bytes, and damaged behind them.
    bench.write("damaged", &[&[0x37, 0xa4, 0x30, 0xec][..], &[0xff; 100]].concat());
    for (code, args) in [
        (5, "codec compare missing"),
        (2, "codec compare db --cf nowhere"),
        (2, "codec compare db --cf empty"),
        (2, "codec compare db --cf words --codecs zstd:3+dict:16KiB"),
        (2, "codec compare db --cf words --block-size 1"),
        (2, "codec compare db --cf words --sample 200%"),
        (2, "codec advise db --cf empty"),
        (2, "codec advise db --cf words --objective quick"),
        (2, "codec advise db --cf words --objective decode:20"),
        (7, "codec advise db --cf words --chart noise"),
        (5, "codec train missing"),
        (2, "codec train db --cf empty"),
        (2, "codec train db --cf words --size 1"),
        (2, "codec train db --cf words --output -"),
        (5, "recompress missing --codec lz4"),
        (2, "recompress db --cf words"),
        (2, "recompress db --cf nowhere --codec lz4"),
        (6, "recompress db --cf words --codec lzma"),
        (2, "recompress db --cf words --codec lz4 --workers 0"),
        (2, "recompress db --cf words --codec lz4 --rate 0"),
        (2, "recompress db --cf words --codec zstd:3 --dictionary noise"),
        (2, "recompress db --cf words --codec zstd:3 --dictionary damaged"),
        (2, "recompress db --cf words --codec zstd:3 --dictionary auto:1"),
        (5, "recompress db --cf words --codec zstd:3 --dictionary absent.dict"),
        (2, "recompress db --cf words --codec lz4 --objective smallest"),
        (0, "recompress db --cf empty --codec lz4"),
    ] {
        bench.exits(code, &args.split(' ').collect::<Vec<_>>());
    }
    assert_eq!(bench.read("noise"), b"7");
}

#[test]
fn damage_ends_a_move_with_code_3_and_statistics_go_on() {
    let bench = with_words(6_000);
    let table = bench.file_of("db", ".sst");
    let mut bytes = std::fs::read(&table).unwrap();
    bytes[2_000] ^= 1;
    std::fs::write(&table, &bytes).unwrap();
    bench.exits(3, &["recompress", "db", "--cf", "words", "--codec", "zstd:3"]);
    assert_eq!(std::fs::read(&table).unwrap(), bytes, "the damaged table stays as it is");
    assert_eq!(bench.json(&["stats", "db", "--cf", "words", "--json"])["schema"], "lignite.stats/1");
}

#[cfg(unix)]
#[test]
fn an_interrupted_move_leaves_everything_intact_and_goes_on_later() {
    let bench = with_words(40_000);
    let before = export(&bench);
    let move_to = ["recompress", "db", "--cf", "words", "--codec", "zstd:3"];
    let mut child = bench.start(&[&move_to[..], &["--rate", "100kB/s", "--progress", "json"]].concat());
    // The first line of progress: it is at work.
    let mut first = [0; 1];
    std::io::Read::read_exact(child.stderr.as_mut().unwrap(), &mut first).unwrap();
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(export(&bench), before);
    bench.ok(&["check", "db", "--deep"]);
    let done = bench.json(&[&move_to[..], &["--json"]].concat());
    assert_eq!(done["tables_rewritten"], 1, "{done}");
    assert_eq!(export(&bench), before);
    bench.ok(&["check", "db", "--deep"]);
}
