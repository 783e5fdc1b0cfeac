"""Where the files of exports are, for whoever asks."""

from chatbots.buckets import hosted_storage
from chatbots.models import Bucket
from compliance.errors import Refused
from compliance.models import ComplianceRequest, Export

Kind = ComplianceRequest.Kind


def download_link(request: ComplianceRequest, *, file_id: int | None = None) -> str:
    """Return an address of minutes for an export's file, or for the copy of an uploaded file beside it.

    It bears the chatter's value. Raises Refused (`not_found`, `not_ready`, `in_client_bucket`, `export_expired`).
    """
    if request.kind != Kind.EXPORT:
        raise Refused("not_found", "This request makes no export.")
    export = Export.objects.filter(request=request).first()
    if export is None or export.finished_at is None:
        raise Refused("not_ready", "The export is not finished. Ask for its status.")
    if export.hosting == Bucket.Hosting.CLIENT:
        raise Refused("in_client_bucket", "The export was written into your own bucket. Fetch it there.")
    if export.key is None or export.doomed_by:
        raise Refused("export_expired", "The export's time is over, or a deletion has removed it.")
    if file_id is None:
        return hosted_storage().link(export.key, filename=export.key.rpartition("/")[2])
    copy = export.copies.filter(file_id=file_id).first()
    if copy is None:
        raise Refused("not_found", "There is no copy of this file beside the export.")
    # Its name is stored with it, and so stands in no address.
    return hosted_storage().link(copy.key)
