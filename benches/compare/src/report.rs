//! The Markdown of a run: rates with their ratio to a yardstick, and what they cost.

use lignite_bench::measure::{Table, median};
use serde_json::Value;

use crate::engine::EngineKind;

/// The lines of some engine's rounds of one workload.
struct Cell<'a> {
    lines: Vec<&'a Value>,
}

impl Cell<'_> {
    fn median(&self, field: &str) -> Option<f64> {
        let values: Vec<f64> = self.lines.iter().filter_map(|line| line[field].as_f64()).collect();
        (!values.is_empty()).then(|| median(&values))
    }

    fn marks(&self) -> String {
        let marks = self.lines.first().and_then(|line| line["marks"].as_array());
        marks.into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join("")
    }
}

/// Tables for every kind of record in `lines`, medians over the rounds; ratios are to `yardstick`.
pub fn markdown(lines: &[Value], yardstick: EngineKind) -> String {
    let mut out = String::new();
    for data in distinct(lines, &["data", "records"]) {
        let of_data: Vec<&Value> =
            lines.iter().filter(|l| format!("{} {}", text(&l["data"]), text(&l["records"])) == data).collect();
        let engines = distinct_of(&of_data, "engine");
        let workloads = distinct_of(&of_data, "workload");
        let cell = |workload: &str, engine: &str| Cell {
            lines: of_data.iter().filter(|l| l["workload"] == workload && l["engine"] == engine).copied().collect(),
        };
        let rounds = distinct_of(&of_data, "round").len();
        out += &format!("### {data} records, {rounds} rounds\n\n");
        out += "Operations a second, medians, and in brackets the ratio to ";
        out += &format!("{yardstick}. `w`: survives less than the class says; `u`: cache not capped.\n\n");
        let mut heads = vec!["workload"];
        heads.extend(engines.iter().map(String::as_str));
        let mut table = Table::new(&heads);
        for workload in &workloads {
            for (suffix, field) in
                [("", "operations_per_second"), (", to last put", "operations_per_second_to_last_put")]
            {
                let base = cell(workload, &yardstick.to_string()).median(field);
                let mut row = vec![format!("{workload}{suffix}")];
                let mut n_figures = 0;
                for engine in &engines {
                    let cell = cell(workload, engine);
                    row.push(match cell.median(field) {
                        Some(rate) => {
                            n_figures += 1;
                            let ratio = base.map_or(String::new(), |base| format!(" ({:.2})", rate / base));
                            format!("{}{ratio}{}", short(rate), cell.marks())
                        }
                        None => "-".to_string(),
                    });
                }
                if n_figures > 0 {
                    table.row(row);
                }
            }
        }
        out += &table.to_string();
        out += "\nWhat it costs: latencies in microseconds; processor time of all threads for an operation; bytes \
                written for each put; files at the end; peak memory.\n\n";
        out += &costs(&workloads, &engines, cell).to_string();
        out.push('\n');
    }
    out
}

fn costs<'a>(workloads: &[String], engines: &[String], cell: impl Fn(&str, &str) -> Cell<'a>) -> Table {
    let heads =
        ["workload", "engine", "p50", "p99", "p99.9", "max", "CPU us", "write amp.", "files MB", "peak MB", "beside"];
    let mut table = Table::new(&heads);
    for workload in workloads {
        for engine in engines {
            let cell = cell(workload, engine);
            if cell.median("operations_per_second").is_none() {
                continue;
            }
            let number = |field: &str, scale: f64| match cell.median(field) {
                Some(value) if value / scale < 10.0 => format!("{:.2}", value / scale),
                Some(value) => format!("{:.0}", value / scale),
                None => "-".to_string(),
            };
            let beside = [
                ("raw_syncs_per_second", "raw syncs/s"),
                ("writer_puts_per_second", "puts/s"),
                ("spin_gap_ms", "gap ms"),
            ]
            .iter()
            .filter_map(|(field, name)| cell.median(field).map(|value| format!("{value:.0} {name}")))
            .collect::<Vec<_>>()
            .join(", ");
            table.row(vec![
                workload.clone(),
                engine.clone(),
                number("p50_us", 1.0),
                number("p99_us", 1.0),
                number("p999_us", 1.0),
                number("max_us", 1.0),
                number("cpu_us_per_operation", 1.0),
                number("write_amplification", 1.0),
                number("disk_bytes", 1e6),
                number("memory_peak", 1e6),
                beside,
            ]);
        }
    }
    table
}

/// A rate in at most four digits.
fn short(rate: f64) -> String {
    match rate {
        r if r >= 1e7 => format!("{:.1} M", r / 1e6),
        r if r >= 1e6 => format!("{:.2} M", r / 1e6),
        r if r >= 1e4 => format!("{:.0} k", r / 1e3),
        r if r >= 1e3 => format!("{:.1} k", r / 1e3),
        r => format!("{r:.0}"),
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// What the fields say together, each once, in the order in which they come.
fn distinct(lines: &[Value], fields: &[&str]) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for line in lines {
        let found = fields.iter().map(|field| text(&line[*field])).collect::<Vec<_>>().join(" ");
        if !out.contains(&found) {
            out.push(found);
        }
    }
    out
}

fn distinct_of(lines: &[&Value], field: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for line in lines {
        let found = text(&line[field]);
        if !out.contains(&found) {
            out.push(found);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn medians_and_ratios() {
        let line = |engine: &str, round: u32, rate: f64| {
            json!({"engine": engine, "workload": "readseq", "data": "small", "records": 10, "round": round,
                   "operations_per_second": rate, "marks": []})
        };
        let lines: Vec<Value> = (0..3)
            .flat_map(|round| {
                [line("lignite", round, 3e6 + f64::from(round)), line("rocksdb-lz4", round, 1e6 + f64::from(round))]
            })
            .collect();
        let markdown = markdown(&lines, EngineKind::RocksdbLz4);
        assert!(markdown.contains("3.00 M (3.00)") && markdown.contains("1.00 M (1.00)"), "{markdown}");
    }
}
