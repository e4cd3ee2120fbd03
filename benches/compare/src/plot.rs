//! How rates go with the number of records, as an SVG with logarithmic axes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use lignite_bench::measure::median;
use serde_json::Value;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 130.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
const COLOURS: [&str; 8] = ["#1b6ca8", "#c0392b", "#2e8b57", "#8e44ad", "#d68910", "#16a085", "#7f8c8d", "#2c3e50"];

/// A line of each engine: median rates of `workload` against the number of records of kind `data`.
pub fn svg(lines: &[Value], workload: &str, data: &str) -> String {
    let mut rates: BTreeMap<String, BTreeMap<u64, Vec<f64>>> = BTreeMap::new();
    for line in lines.iter().filter(|l| l["workload"] == workload && l["data"] == data) {
        let (Some(engine), Some(records), Some(rate)) =
            (line["engine"].as_str(), line["records"].as_u64(), line["operations_per_second"].as_f64())
        else {
            continue;
        };
        rates.entry(engine.to_owned()).or_default().entry(records).or_default().push(rate);
    }
    let points: BTreeMap<String, Vec<(f64, f64)>> = rates
        .into_iter()
        .map(|(engine, by_size)| (engine, by_size.into_iter().map(|(n, r)| (n as f64, median(&r))).collect()))
        .collect();
    draw(&points, workload, data)
}

fn draw(points: &BTreeMap<String, Vec<(f64, f64)>>, workload: &str, data: &str) -> String {
    let all = || points.values().flatten();
    let low = |value: fn(&(f64, f64)) -> f64| all().map(value).fold(f64::INFINITY, f64::min);
    let high = |value: fn(&(f64, f64)) -> f64| all().map(value).fold(1.0, f64::max);
    let x_axis = Axis::new(low(|p| p.0), high(|p| p.0), LEFT, WIDTH - RIGHT);
    let y_axis = Axis::new(low(|p| p.1), high(|p| p.1), HEIGHT - BOTTOM, TOP);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"15\">{workload}, {data} records: operations a second</text>\n"
    );
    // Writing into a string cannot fail.
    for (value, place) in x_axis.ticks() {
        let _ = writeln!(
            out,
            "<line x1=\"{place:.1}\" x2=\"{place:.1}\" y1=\"{TOP}\" y2=\"{}\" stroke=\"#ddd\"/>",
            HEIGHT - BOTTOM
        );
        let _ = writeln!(
            out,
            "<text x=\"{place:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            HEIGHT - BOTTOM + 18.0,
            round(value)
        );
    }
    for (value, place) in y_axis.ticks() {
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{place:.1}\" y2=\"{place:.1}\" stroke=\"#ddd\"/>",
            WIDTH - RIGHT
        );
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 8.0,
            place + 4.0,
            round(value)
        );
    }
    let _ = writeln!(
        out,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">records</text>",
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 12.0
    );
    for (n, (engine, line)) in points.iter().enumerate() {
        let colour = COLOURS[n % COLOURS.len()];
        let places: Vec<(f64, f64)> = line.iter().map(|(x, y)| (x_axis.place(*x), y_axis.place(*y))).collect();
        let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            path.join(" ")
        );
        for (x, y) in &places {
            let _ = writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
        }
        let y = TOP + 14.0 + 18.0 * n as f64;
        let _ = writeln!(out, "<text x=\"{}\" y=\"{y:.1}\" fill=\"{colour}\">{engine}</text>", WIDTH - RIGHT + 12.0);
    }
    out.push_str("</svg>\n");
    out
}

/// A logarithmic axis from one place to another.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn new(low: f64, high: f64, from: f64, to: f64) -> Axis {
        // A single value gets an axis around it.
        let low = if low.is_finite() { low } else { 1.0 };
        Axis { low: (low / 1.5).log10(), high: (high * 1.5).log10(), from, to }
    }

    fn place(&self, value: f64) -> f64 {
        self.from + (value.log10() - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// One, two and five times the powers of ten within the axis.
    fn ticks(&self) -> Vec<(f64, f64)> {
        let decades = self.low.floor() as i32..=self.high.ceil() as i32;
        decades
            .flat_map(|decade| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(decade)))
            .filter(|value| (self.low..=self.high).contains(&value.log10()))
            .map(|value| (value, self.place(value)))
            .collect()
    }
}

fn round(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{} M", v / 1e6),
        v if v >= 1e3 => format!("{} k", v / 1e3),
        v => format!("{v}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_for_each_engine() {
        let lines: Vec<Value> = [("lignite", 1000, 5e6), ("lignite", 4000, 4e6), ("lmdb", 1000, 3e6)]
            .map(|(engine, records, rate)| {
                json!({"engine": engine, "workload": "readrandom", "data": "small", "records": records,
                       "operations_per_second": rate})
            })
            .to_vec();
        let svg = svg(&lines, "readrandom", "small");
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert_eq!(svg.matches("<circle").count(), 3);
    }
}
