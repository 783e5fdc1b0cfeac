"""Which of their chatbots an officer wants mails of: each their own choice."""

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from chatbots.models import Membership
from chatbots.operations import set_mails
from compliance.models import Mailbox
from console.common.pages import form, render
from console.common.scope import Role, actor_of


@form
def mails(request: HttpRequest) -> HttpResponse:
    user = request.user
    assert isinstance(user, User)  # noqa: S101  (whoever is not logged in does not come here)
    memberships = Membership.objects.filter(user=user, role=Role.OFFICER).select_related("chatbot")
    roles = list(memberships.order_by("chatbot__name", "pk"))
    if request.method == "POST":
        # A role that was given since the page was shown is not taken for one that was left out.
        shown, chosen = request.POST.getlist("shown"), request.POST.getlist("wanted")
        wanted = {one.chatbot_id: str(one.chatbot_id) in chosen for one in roles if str(one.chatbot_id) in shown}
        set_mails(user=user, wanted=wanted, actor=actor_of(request))
        messages.success(request, "Kept.")
        return redirect("console:mails")
    return render(
        request,
        "console/monitoring/mails.html",
        title="Mails",
        roles=roles,
        has_address=bool(user.email),
        is_on=settings.MAILS,
        mailbox=Mailbox.objects.filter(user=user).first(),
    )
