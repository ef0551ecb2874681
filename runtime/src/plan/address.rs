//! The pod's own addresses in its environment: not known when the plan is
//! made, so a mark stands for them until the pod is started.

use oci_spec::runtime::Spec;

/// Stands for `status.podIP`. Of Unicode's private use, so that no manifest means it.
pub(super) const POD_IP: &str = "\u{e000}podIP\u{e000}";
/// Stands for `status.podIPs`.
pub(super) const POD_IPS: &str = "\u{e000}podIPs\u{e000}";

/// Puts the pod's addresses where `spec`'s arguments and environment refer to
/// them. To be called before the container is first made; without addresses the
/// values become empty, as Kubernetes has them. Where the addresses are not known
/// before the pod has its namespaces, the supervisor does it at the pod's start.
pub fn fill_in(spec: &mut Spec, addresses: &[String]) {
    let Some(process) = spec.process_mut() else { return };
    let first = addresses.first().map_or("", String::as_str);
    let all = addresses.join(",");
    let filled = |list: &Option<Vec<String>>| {
        list.as_ref().map(|list| {
            let mut list = list.clone();
            list.iter_mut().for_each(|text| fill_text(text, first, &all));
            list
        })
    };
    let (args, env) = (filled(process.args()), filled(process.env()));
    process.set_args(args).set_env(env);
}

/// Whether `spec` still waits for [`fill_in`].
pub(crate) fn is_open(spec: &Spec) -> bool {
    let Some(process) = spec.process() else { return false };
    let lists = [process.args(), process.env()];
    lists.into_iter().flatten().flatten().any(|text| text.contains('\u{e000}'))
}

fn fill_text(text: &mut String, first: &str, all: &str) {
    if text.contains('\u{e000}') {
        *text = text.replace(POD_IP, first).replace(POD_IPS, all);
    }
}
