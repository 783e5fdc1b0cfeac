"""Checks of a site as a whole, once all faults are repaired and all work is done."""

from tests.faults.site import Site
from tests.oracle.comparison import Findings
from tests.oracle.evidence import Evidence

# Codes that health reports for some minutes after the fault.
_TOLD_LATER = {"cluster_gone", "cluster_restarted", "database_refused"}
_KINDS = ("orphans", "old_versions", "young", "missing", "of_another_size", "rows")


def of_site(site: Site, found: Evidence) -> Findings:
    """Yield kind and text of missing programs, of health's problems, and of unexpected objects in the buckets."""
    for what in site.missing():
        yield "ended process", f"{what}, though all faults are mended"
    for code in sorted(site.health() - _TOLD_LATER):
        yield "health", f"health reports {code}, though all requests are over"
    said = site.manage("reconcile_storage", "--json", ends=(0, 3)).document
    for kind in _KINDS:
        if said[kind]:
            yield "orphan", f"reconcile_storage reports {kind}: {said[kind]}"
    if uploads := [*found.objects.uploads, *found.client_objects.uploads]:
        yield "open upload", f"{len(uploads)} multipart uploads are open"
    if site.manage("verify_erasure", "--all", ends=(0, 3)).code:
        yield "row left", "verify_erasure --all finds something left"
