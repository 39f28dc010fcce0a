//! Several pages of numbers as one: what OpenMetrics asks of it.
//!
//! In: pages of the same families of metrics. Out: one page. It must stay true that all samples of
//! a family stand together behind its one description, and that the end is said once.
//! <https://prometheus.io/docs/specs/om/open_metrics_spec/>

use std::collections::HashMap;
use std::fmt::Write as _;

const HELP: &str = "# HELP ";
const END: &str = "# EOF";

#[derive(Default)]
struct Family<'a> {
    head: Vec<&'a str>,
    samples: Vec<&'a str>,
}

/// One page of all, in the order in which families come up.
pub(super) fn merge(pages: &[String]) -> String {
    let (mut families, mut places) = (Vec::<Family<'_>>::new(), HashMap::<&str, usize>::new());
    for page in pages {
        let (mut place, mut is_new) = (0, false);
        for line in page.lines().filter(|line| *line != END) {
            if let Some(rest) = line.strip_prefix(HELP) {
                let name = rest.split(' ').next().unwrap_or_default();
                is_new = !places.contains_key(name);
                place = *places.entry(name).or_insert(families.len());
                if is_new {
                    families.push(Family::default());
                }
            }
            let Some(family) = families.get_mut(place) else { continue };
            match (line.starts_with('#'), is_new) {
                (true, true) => family.head.push(line),
                (true, false) => {}
                (false, _) => family.samples.push(line),
            }
        }
    }
    let mut text = String::new();
    for line in families.iter().flat_map(|family| family.head.iter().chain(&family.samples)) {
        // A String takes everything.
        let _always = writeln!(text, "{line}");
    }
    text + END + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_a_family_stand_together_behind_one_description() {
        let of = |table: &str, more: &str| {
            format!(
                "# HELP a First.\n# TYPE a counter\na_total{{table=\"{table}\"}} 1\n\
                 # HELP b Second.\n# TYPE b gauge\nb{{table=\"{table}\"}} 2\n{more}# EOF\n"
            )
        };
        let pages = [of("x", ""), of("y", "# HELP c Third.\n# TYPE c gauge\nc 3\n")];
        assert_eq!(
            merge(&pages),
            "# HELP a First.\n# TYPE a counter\na_total{table=\"x\"} 1\na_total{table=\"y\"} 1\n\
             # HELP b Second.\n# TYPE b gauge\nb{table=\"x\"} 2\nb{table=\"y\"} 2\n\
             # HELP c Third.\n# TYPE c gauge\nc 3\n# EOF\n"
        );
        assert_eq!(merge(&pages[..1]), pages[0]);
    }
}
