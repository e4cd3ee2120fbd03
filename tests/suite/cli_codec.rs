//! The commands about codecs, as scripts see them.

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
