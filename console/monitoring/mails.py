"""Email notifications: officers choose the chatbots for which they get them."""

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from chatbots.models import Membership
from chatbots.operations.chatbots import set_mails
from compliance.models import Mailbox
from console.common.pages import form, render
from console.common.scope import Role, actor_of


@form
def mails(request: HttpRequest) -> HttpResponse:
    user = request.user
    assert isinstance(user, User)  # noqa: S101  (the page requires a login)
    memberships = Membership.objects.filter(user=user, role=Role.OFFICER).select_related("chatbot")
    roles = list(memberships.order_by("chatbot__name", "pk"))
    if request.method == "POST":
        # A role given after the page was loaded is not in `shown`, and stays as it is.
        shown, chosen = request.POST.getlist("shown"), request.POST.getlist("wanted")
        wanted = {one.chatbot_id: str(one.chatbot_id) in chosen for one in roles if str(one.chatbot_id) in shown}
        set_mails(user=user, wanted=wanted, actor=actor_of(request))
        messages.success(request, "Saved.")
        return redirect("console:mails")
    return render(
        request,
        "console/monitoring/mails.html",
        title="Email notifications",
        roles=roles,
        has_address=bool(user.email),
        is_on=settings.MAILS,
        mailbox=Mailbox.objects.filter(user=user).first(),
    )
