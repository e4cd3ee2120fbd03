//! The picture of a choice: each candidate by what a read costs and by what it leaves on disk.
//!
//! One HTML file that needs nothing else: the SVG is written here, there is no script, and the page forbids
//! itself to load anything. Light and dark follow the reader's system. Everything that comes from outside is
//! escaped; names may be hostile.
//!
//! ```text
//! size, share of raw
//!   |  o lz4            x   decoding one block, logarithmic
//!   |    \_             o   a candidate; its colour is the codec, a diamond has a dictionary
//!   |      o___ zstd:3  \_  the front: whatever is not on it is beaten in both by something that is
//!   +------------ time
//! ```

use std::fmt::Write as _;

/// What the page shows.
pub struct Chart {
    /// The heading.
    pub title: String,
    /// Lines below it.
    pub facts: Vec<String>,
    /// The heads of the table's columns behind the first, which is the candidate.
    pub columns: Vec<&'static str>,
    /// The candidates.
    pub marks: Vec<Mark>,
}

/// One candidate.
#[derive(Clone)]
pub struct Mark {
    /// What to call it.
    pub label: String,
    /// The codec's name, which decides the colour.
    pub codec: String,
    /// Whether it has a dictionary.
    pub has_dictionary: bool,
    /// Nanoseconds to decode a block.
    pub decode_nanos: f64,
    /// Stored bytes as a share of raw ones.
    pub share: f64,
    /// True if it is what is in force, or what is advised: it gets a ring, and this word.
    pub ring: Option<&'static str>,
    /// The cells of its row, one a column.
    pub cells: Vec<String>,
}

/// Which of some candidates, by size and time, are beaten by no other: none is better in one and as good in the
/// other. What is no number is beaten.
pub fn front(points: &[(f64, f64)]) -> Vec<bool> {
    let beats = |a: &(f64, f64), b: &(f64, f64)| a.0 <= b.0 && a.1 <= b.1 && (a.0 < b.0 || a.1 < b.1);
    let is_number = |p: &(f64, f64)| p.0.is_finite() && p.1.is_finite();
    points.iter().map(|p| is_number(p) && !points.iter().any(|other| is_number(other) && beats(other, p))).collect()
}

/// The whole page.
pub fn page(chart: &Chart) -> String {
    let on_front = front(&chart.marks.iter().map(|m| (m.share, m.decode_nanos)).collect::<Vec<_>>());
    let title = escape(&chart.title);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n"
    );
    for fact in &chart.facts {
        put(&mut out, format_args!("<p class=\"fact\">{}</p>", escape(fact)));
    }
    put_picture(&mut out, &chart.marks, &on_front);
    put_legend(&mut out, &chart.marks);
    put_table(&mut out, chart, &on_front);
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

const STYLE: &str = "\
:root { color-scheme: light dark; --page: #ffffff; --ink: #1f2328; --soft: #59636e; --line: #d8dee4; --front: #8c959f;
  --none: #6b7280; --snappy: #b45309; --lz4: #0369a1; --lz4hc: #0d8a7c; --zstd: #7c3aed; --brotli: #be123c; --other: #1f2328; }
@media (prefers-color-scheme: dark) {
  :root { --page: #0d1117; --ink: #e6edf3; --soft: #9198a1; --line: #30363d; --front: #6e7681;
    --none: #9ca3af; --snappy: #f59e0b; --lz4: #38bdf8; --lz4hc: #2dd4bf; --zstd: #a78bfa; --brotli: #fb7185; --other: #e6edf3; }
}
@media print { :root { --page: #ffffff; --ink: #000000; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.45 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.25rem; margin: 0 0 .4rem; overflow-wrap: anywhere; }
.fact { margin: 0 0 .2rem; color: var(--soft); overflow-wrap: anywhere; }
svg { display: block; width: 100%; height: auto; margin: 1rem 0 .5rem; font: 12px system-ui, sans-serif; }
svg text { fill: var(--ink); }
svg .axis, svg .tick { fill: var(--soft); }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .front { fill: none; stroke: var(--front); stroke-width: 1.5; stroke-dasharray: 5 4; }
svg .leader { stroke: var(--front); stroke-width: .75; }
svg .label { font-size: 11px; paint-order: stroke; stroke: var(--page); stroke-width: 3px; stroke-linejoin: round; }
svg .label.behind { fill: var(--soft); }
svg .label.on { font-weight: 600; }
svg .behind .shape { fill-opacity: .45; }
svg .ring { fill: none; stroke: var(--ink); stroke-width: 1.5; }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; margin: 0 0 1.2rem; padding: 0; list-style: none; color: var(--soft); }
.legend svg { display: inline-block; width: 14px; height: 14px; margin: 0 .35rem 0 0; vertical-align: -2px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; white-space: nowrap; }
th, td { padding: .2rem .9rem .2rem 0; text-align: right; border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--soft); }
th:first-child, td:first-child { text-align: left; }
tr.on td:first-child { font-weight: 600; }
";

const WIDTH: f64 = 920.0;
const HEIGHT: f64 = 520.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 54.0;
/// Half the width of a mark.
const MARK: f64 = 5.0;
/// How far the ring around a mark stands off.
const RING: f64 = 4.0;
/// A label's height, and what a letter of it takes; an estimate on the wide side.
const LABEL_HEIGHT: f64 = 14.0;
const LETTER_WIDTH: f64 = 6.6;
/// The longest label, in letters; the table has it in full.
const LABEL_LEN_MAX: usize = 40;

fn put_picture(out: &mut String, marks: &[Mark], on_front: &[bool]) {
    let shown = shown(marks);
    let x_axis = Axis::logarithmic(shown.iter().map(|&i| marks[i].decode_nanos), LEFT, WIDTH - RIGHT);
    let y_axis = Axis::linear(shown.iter().map(|&i| 100.0 * marks[i].share), HEIGHT - BOTTOM, TOP);
    let place = |i: usize| (x_axis.place(marks[i].decode_nanos), y_axis.place(100.0 * marks[i].share));
    put(
        out,
        format_args!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"Size against decoding time of each candidate; \
             the table below has the figures\">"
        ),
    );
    let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    for (value, x) in x_axis.ticks() {
        put(out, format_args!("<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>"));
        let (y, text) = (bottom + 18.0, nanos(value));
        put(out, format_args!("<text class=\"tick\" x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{text}</text>"));
    }
    for (value, y) in y_axis.ticks() {
        put(out, format_args!("<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>"));
        let (x, y) = (LEFT - 8.0, y + 4.0);
        put(out, format_args!("<text class=\"tick\" x=\"{x}\" y=\"{y:.1}\" text-anchor=\"end\">{value} %</text>"));
    }
    let (x, y) = ((LEFT + right) / 2.0, HEIGHT - 12.0);
    put(
        out,
        format_args!(
            "<text class=\"axis\" x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">time to decode a block (left is better)</text>"
        ),
    );
    let y = (TOP + bottom) / 2.0;
    put(
        out,
        format_args!(
            "<text class=\"axis\" transform=\"translate(14 {y}) rotate(-90)\" text-anchor=\"middle\">size, share of raw (lower is better)</text>"
        ),
    );
    put_front(out, shown.iter().filter(|&&i| on_front[i]).map(|&i| place(i)).collect());

    let places: Vec<(f64, f64)> = shown.iter().map(|&i| place(i)).collect();
    let texts: Vec<String> = shown.iter().map(|&i| label(&marks[i])).collect();
    let first: Vec<bool> = shown.iter().map(|&i| on_front[i] || marks[i].ring.is_some()).collect();
    let rings: Vec<bool> = shown.iter().map(|&i| marks[i].ring.is_some()).collect();
    let labels = place_labels(&places, &texts, &first, &rings);
    // What is beaten lies below what is not.
    let mut order: Vec<usize> = (0..shown.len()).collect();
    order.sort_by_key(|&n| first[n]);
    for n in order {
        put_mark(out, &marks[shown[n]], on_front[shown[n]], places[n]);
    }
    for (n, label) in labels.iter().enumerate() {
        let Some(label) = label else { continue };
        if let Some((x, y)) = label.leader {
            let (from_x, from_y) = places[n];
            put(
                out,
                format_args!(
                    "<line class=\"leader\" x1=\"{from_x:.1}\" y1=\"{from_y:.1}\" x2=\"{x:.1}\" y2=\"{y:.1}\"/>"
                ),
            );
        }
        let class = if first[n] { "on" } else { "behind" };
        let (x, anchor) = if label.ends_at_mark { (label.area.right, "end") } else { (label.area.left, "start") };
        let (y, text) = (label.area.top + LABEL_HEIGHT - 3.5, escape(&texts[n]));
        put(
            out,
            format_args!(
                "<text class=\"label {class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
            ),
        );
    }
    out.push_str("</svg>\n");
}

/// The marks that are drawn. What is not compressed lies so far from all else that it would leave them no room: it
/// stands in the table only, unless there is little else or it is what matters.
fn shown(marks: &[Mark]) -> Vec<usize> {
    let drawable = || (0..marks.len()).filter(|&i| is_drawable(&marks[i]));
    let compressed = |&i: &usize| marks[i].codec != "none" || marks[i].ring.is_some();
    if drawable().filter(compressed).count() < 2 {
        drawable().collect()
    } else {
        drawable().filter(compressed).collect()
    }
}

fn is_drawable(mark: &Mark) -> bool {
    mark.decode_nanos.is_finite() && mark.decode_nanos > 0.0 && mark.share.is_finite() && mark.share >= 0.0
}

fn label(mark: &Mark) -> String {
    let text = match mark.ring {
        Some(word) => format!("{} ({word})", mark.label),
        None => mark.label.clone(),
    };
    if text.chars().count() <= LABEL_LEN_MAX {
        return text;
    }
    text.chars().take(LABEL_LEN_MAX - 2).chain("..".chars()).collect()
}

/// The front as stairs: between two candidates there is nothing to be had.
fn put_front(out: &mut String, mut places: Vec<(f64, f64)>) {
    places.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
    if places.len() < 2 {
        return;
    }
    let mut path = String::new();
    for (n, (x, y)) in places.iter().enumerate() {
        if n == 0 {
            let _ = write!(path, "M{x:.1} {y:.1}");
        } else {
            let _ = write!(path, "H{x:.1}V{y:.1}");
        }
    }
    put(out, format_args!("<path class=\"front\" d=\"{path}\"/>"));
}

fn put_mark(out: &mut String, mark: &Mark, is_on_front: bool, (x, y): (f64, f64)) {
    let class = if is_on_front || mark.ring.is_some() { "mark" } else { "mark behind" };
    let figures = format!("{:.1} % of raw, {} a block", 100.0 * mark.share, nanos(mark.decode_nanos));
    put(
        out,
        format_args!(
            "<g class=\"{class}\" data-label=\"{label}\" data-share=\"{share}\" data-decode-nanos=\"{nanos}\"><title>{label}: {figures}</title>",
            label = escape(&mark.label),
            share = mark.share,
            nanos = mark.decode_nanos,
        ),
    );
    put_shape(out, &mark.codec, mark.has_dictionary, x, y);
    if mark.ring.is_some() {
        put(out, format_args!("<circle class=\"ring\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{}\"/>", MARK + RING));
    }
    out.push_str("</g>\n");
}

fn put_shape(out: &mut String, codec: &str, has_dictionary: bool, x: f64, y: f64) {
    let colour = colour(codec);
    if has_dictionary {
        let r = MARK + 1.5;
        put(
            out,
            format_args!(
                "<path class=\"shape\" fill=\"var(--{colour})\" d=\"M{x:.1} {:.1}L{:.1} {y:.1}L{x:.1} {:.1}L{:.1} {y:.1}Z\"/>",
                y - r,
                x + r,
                y + r,
                x - r
            ),
        );
    } else {
        put(
            out,
            format_args!("<circle class=\"shape\" fill=\"var(--{colour})\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{MARK}\"/>"),
        );
    }
}

/// The name of the colour of a codec.
fn colour(codec: &str) -> &str {
    const NAMES: [&str; 6] = ["none", "snappy", "lz4", "lz4hc", "zstd", "brotli"];
    NAMES.into_iter().find(|name| *name == codec).unwrap_or("other")
}

fn put_legend(out: &mut String, marks: &[Mark]) {
    let mut codecs: Vec<&str> = Vec::new();
    for mark in marks {
        if !codecs.contains(&mark.codec.as_str()) {
            codecs.push(&mark.codec);
        }
    }
    out.push_str("<ul class=\"legend\">\n");
    let item = |out: &mut String, codec: &str, has_dictionary: bool, text: &str| {
        out.push_str("<li><svg viewBox=\"0 0 14 14\" aria-hidden=\"true\">");
        put_shape(out, codec, has_dictionary, 7.0, 7.0);
        put(out, format_args!("</svg>{}</li>", escape(text)));
    };
    let shown = shown(marks);
    for codec in codecs {
        if shown.iter().any(|&i| marks[i].codec == codec) {
            item(out, codec, false, codec);
        }
    }
    if marks.iter().any(|m| m.has_dictionary) {
        item(out, "other", true, "with a dictionary");
    }
    out.push_str("<li>dashed: the front; pale: beaten in both size and time</li>\n");
    if shown.len() < marks.len() {
        out.push_str("<li>far off, and only in the table: what is not compressed</li>\n");
    }
    out.push_str("</ul>\n");
}

fn put_table(out: &mut String, chart: &Chart, on_front: &[bool]) {
    out.push_str("<div class=\"scroll\"><table>\n<thead><tr><th>candidate</th>");
    for column in &chart.columns {
        let _ = write!(out, "<th>{}</th>", escape(column));
    }
    out.push_str("<th>front</th></tr></thead>\n<tbody>\n");
    for (mark, &on_front) in chart.marks.iter().zip(on_front) {
        let ring = mark.ring.map(|word| format!(" ({word})")).unwrap_or_default();
        let class = if on_front { " class=\"on\"" } else { "" };
        let _ = write!(out, "<tr{class}><td>{}{}</td>", escape(&mark.label), escape(&ring));
        for cell in &mark.cells {
            let _ = write!(out, "<td>{}</td>", escape(cell));
        }
        put(out, format_args!("<td>{}</td></tr>", if on_front { "yes" } else { "" }));
    }
    out.push_str("</tbody>\n</table></div>\n");
}

/// Appends a line. Writing into a string cannot fail.
fn put(out: &mut String, line: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(line);
    out.push('\n');
}

/// Text as HTML may hold it, between tags and in quoted attributes. Characters that control, or that turn the
/// direction of what follows, are replaced.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => out.push('\u{fffd}'),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// A time with a unit, short.
pub fn nanos(n: f64) -> String {
    let (value, unit) = match n {
        n if n < 1e3 => (n, "ns"),
        n if n < 1e6 => (n / 1e3, "\u{b5}s"),
        n if n < 1e9 => (n / 1e6, "ms"),
        n => (n / 1e9, "s"),
    };
    let digits = if value >= 100.0 || value.fract() == 0.0 { 0 } else { 1 };
    format!("{value:.digits$} {unit}")
}

/// From values to places.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    is_logarithmic: bool,
}

impl Axis {
    fn logarithmic(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Axis {
        let (low, high) = bounds(values.map(f64::log10), 3.0);
        // A tenth of a decade on both sides, and half a decade in all at least.
        let more = 0.08_f64.max((0.5 - (high - low)) / 2.0);
        Axis { low: low - more, high: high + more, from, to, is_logarithmic: true }
    }

    fn linear(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Axis {
        let (low, high) = bounds(values, 50.0);
        let more = (0.06 * (high - low)).max(1.0);
        Axis { low: (low - more).max(0.0), high: high + more, from, to, is_logarithmic: false }
    }

    fn place(&self, value: f64) -> f64 {
        let value = if self.is_logarithmic { value.log10() } else { value };
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// Round values within the axis, and their places.
    fn ticks(&self) -> Vec<(f64, f64)> {
        let values: Vec<f64> = if self.is_logarithmic {
            let digits: &[f64] = if self.high - self.low > 3.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
            let decades = self.low.floor() as i32..=self.high.ceil() as i32;
            decades.flat_map(|decade| digits.iter().map(move |digit| digit * 10f64.powi(decade))).collect()
        } else {
            let steps = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0];
            let span = self.high - self.low;
            let step = steps.into_iter().find(|step| span / step <= 8.0).unwrap_or(span / 4.0);
            let first = (self.low / step).ceil();
            (0..32).map(|n| (first + f64::from(n)) * step).take_while(|value| *value <= self.high).collect()
        };
        let is_within = |value: &f64| {
            let value = if self.is_logarithmic { value.log10() } else { *value };
            (self.low..=self.high).contains(&value)
        };
        values.into_iter().filter(is_within).map(|value| (value, self.place(value))).collect()
    }
}

/// The smallest and the largest of some values; `middle` twice where there are none.
fn bounds(values: impl Iterator<Item = f64>, middle: f64) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    if low <= high { (low, high) } else { (middle, middle) }
}

/// Where a label stands.
struct Label {
    area: Area,
    /// True if it stands to the left of its mark.
    ends_at_mark: bool,
    /// Where the line from its mark ends, if it stands apart from it.
    leader: Option<(f64, f64)>,
}

#[derive(Clone, Copy)]
struct Area {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
}

impl Area {
    fn overlap(&self, other: &Area) -> f64 {
        let width = self.right.min(other.right) - self.left.max(other.left);
        let height = self.bottom.min(other.bottom) - self.top.max(other.top);
        if width > 0.0 && height > 0.0 { width * height } else { 0.0 }
    }
}

/// A place for each label near its mark that is free of marks and of other labels: first those that matter, then
/// the others, which go without one where there is no room. Those that matter stand somewhere in any case.
fn place_labels(places: &[(f64, f64)], texts: &[String], first: &[bool], rings: &[bool]) -> Vec<Option<Label>> {
    let square = |&(x, y): &(f64, f64)| Area { left: x - MARK, top: y - MARK, right: x + MARK, bottom: y + MARK };
    let marks: Vec<Area> = places.iter().map(square).collect();
    let mut labels: Vec<Option<Label>> = (0..places.len()).map(|_| None).collect();
    let mut taken: Vec<Area> = Vec::new();
    let mut order: Vec<usize> = (0..places.len()).collect();
    order.sort_by(|&a, &b| first[b].cmp(&first[a]).then(places[a].0.total_cmp(&places[b].0)));
    for n in order {
        let width = LETTER_WIDTH * texts[n].chars().count() as f64;
        let mut best: Option<(f64, Label)> = None;
        for candidate in candidates(places[n], width, rings[n]) {
            let area = candidate.area;
            let is_outside = area.left < LEFT || area.right > WIDTH || area.top < 0.0 || area.bottom > HEIGHT - BOTTOM;
            let cost = marks.iter().chain(&taken).map(|other| area.overlap(other)).sum::<f64>()
                + if is_outside { 1e4 } else { 0.0 };
            if best.as_ref().is_none_or(|(least, _)| cost < *least) {
                best = Some((cost, candidate));
            }
            if cost == 0.0 {
                break;
            }
        }
        if let Some((cost, label)) = best
            && (cost == 0.0 || first[n])
        {
            taken.push(label.area);
            labels[n] = Some(label);
        }
    }
    labels
}

/// Places around a mark, the best ones first.
fn candidates((x, y): (f64, f64), width: f64, has_ring: bool) -> impl Iterator<Item = Label> {
    const DIRECTIONS: [(f64, f64); 8] =
        [(1.0, -0.7), (1.0, 0.7), (-1.0, 0.7), (-1.0, -0.7), (0.0, -1.0), (0.0, 1.0), (1.0, 0.0), (-1.0, 0.0)];
    let nearest = if has_ring { 9.0 + RING } else { 9.0 };
    [nearest, 20.0, 34.0, 50.0, 70.0].into_iter().flat_map(move |distance| {
        DIRECTIONS.into_iter().map(move |(dx, dy)| {
            let (at_x, at_y) = (x + dx * distance, y + dy * distance);
            let left = match dx {
                dx if dx > 0.0 => at_x,
                dx if dx < 0.0 => at_x - width,
                _ => at_x - width / 2.0,
            };
            let top = at_y - LABEL_HEIGHT / 2.0;
            let area = Area { left, top, right: left + width, bottom: top + LABEL_HEIGHT };
            Label { area, ends_at_mark: dx < 0.0, leader: (distance > nearest).then_some((at_x, at_y)) }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(label: &str, codec: &str, decode_nanos: f64, share: f64) -> Mark {
        Mark {
            label: label.to_string(),
            codec: codec.to_string(),
            has_dictionary: label.ends_with("+dict"),
            decode_nanos,
            share,
            ring: None,
            cells: vec![format!("{:.1} %", share * 100.0)],
        }
    }

    fn chart(marks: Vec<Mark>) -> Chart {
        Chart { title: "t".to_string(), facts: vec!["f".to_string()], columns: vec!["size"], marks }
    }

    #[test]
    fn the_front_is_what_nothing_beats() {
        let points = [(0.5, 2.0), (0.4, 3.0), (0.5, 3.0), (0.3, 9.0), (0.3, 9.0), (0.9, 1.0), (f64::NAN, 0.0)];
        assert_eq!(front(&points), [true, true, false, true, true, true, false]);
        assert!(front(&[]).is_empty());
    }

    #[test]
    fn hostile_names_are_escaped() {
        let mut hostile = chart(vec![mark("</svg><script>alert(1)</script>\u{202e}\u{0}\"'&", "x\"><b>", 1e3, 0.5)]);
        hostile.title = "<!-- --></title><script>".to_string();
        hostile.facts = vec!["<img src=x onerror=alert(1)>".to_string()];
        let page = page(&hostile);
        for part in ["<script", "<img", "<b>", "<!-- ", "\u{202e}", "\u{0}"] {
            assert!(!page.contains(part), "{part}");
        }
        assert!(page.contains("&lt;/svg&gt;&lt;script&gt;"));
    }

    #[test]
    fn a_page_loads_nothing() {
        let page = page(&chart(vec![mark("lz4", "lz4", 1e3, 0.5), mark("zstd:3+dict", "zstd", 9e3, 0.2)]));
        for word in ["http:", "https:", "src=", "href=", "url(", "@import", "<script", "<link"] {
            assert!(!page.contains(word), "{word}");
        }
        assert!(page.contains("default-src 'none'"));
    }

    #[test]
    fn every_candidate_has_a_mark_and_a_row() {
        let marks: Vec<Mark> =
            (1..=30).map(|i| mark(&format!("zstd:{i}"), "zstd", 1e3 * f64::from(i), 1.0 / f64::from(i))).collect();
        let page = page(&chart(marks));
        assert_eq!(page.matches("class=\"mark").count(), 30);
        assert_eq!(page.matches("<tr").count(), 31);
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
        assert_eq!(page.matches("<g ").count(), page.matches("</g>").count());
    }

    #[test]
    fn places_lie_within_the_picture_whatever_the_values() {
        for values in [
            vec![],
            vec![(1e3, 0.5)],
            vec![(0.0, 0.5), (-1.0, 0.5), (f64::NAN, 0.1), (f64::INFINITY, 0.1), (1e3, f64::NAN)],
            vec![(1e-3, 0.0), (1e12, 40.0)],
            vec![(500.0, 1.0), (500.0, 1.0)],
        ] {
            let marks = values.iter().map(|&(n, share)| mark("m", "lz4", n, share)).collect();
            let page = page(&chart(marks));
            for attribute in ["cx=\"", "cy=\"", "x1=\"", "y1=\"", " x=\"", " y=\""] {
                for place in page.split(attribute).skip(1).filter_map(|rest| rest.split('"').next()) {
                    // What is no number is within nothing.
                    let place: f64 = place.parse().unwrap_or(f64::NAN);
                    assert!((-1.0..=WIDTH + 1.0).contains(&place), "{attribute}{place}");
                }
            }
        }
    }

    #[test]
    fn labels_do_not_cover_each_other() {
        let marks: Vec<Mark> = (0..24)
            .map(|i| mark(&format!("zstd:{i}"), "zstd", 1e3 * 1.2f64.powi(i), 0.5 - 0.015 * f64::from(i)))
            .collect();
        let places: Vec<(f64, f64)> =
            marks.iter().map(|m| (100.0 + m.decode_nanos.log10() * 100.0, m.share * 900.0)).collect();
        let texts: Vec<String> = marks.iter().map(label).collect();
        let labels = place_labels(&places, &texts, &[true; 24], &[false; 24]);
        let areas: Vec<Area> = labels.iter().flatten().map(|l| l.area).collect();
        assert_eq!(areas.len(), 24);
        for (n, a) in areas.iter().enumerate() {
            assert!(areas[..n].iter().all(|b| a.overlap(b) == 0.0), "label {n}");
        }
    }
}
