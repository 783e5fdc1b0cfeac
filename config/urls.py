from django.apps import apps
from django.contrib import admin
from django.urls import include, path, re_path

import chatbots.console.urls
import compliance.console.urls
import conversations.console.urls
from config import problems
from config.openapi import views as openapi

# A schedule names any Python function to run: those of the code are synced, and a form for others is a way in.
admin.site.unregister(apps.get_model("django_q", "Schedule"))

# The pages of our own stand in front of the admin's.
console = [
    *chatbots.console.urls.urlpatterns,
    *conversations.console.urls.urlpatterns,
    *compliance.console.urls.urlpatterns,
]

urlpatterns = [
    path("admin/", include((console, "console"))),
    path("admin/", admin.site.urls),
    path("api/v1/chatbots/<slug:slug>/", include("conversations.api.urls")),
    path("api/v1/chatbots/<slug:slug>/", include("compliance.api.urls")),
    path("api/schema/", openapi.schema, name="schema"),
    path("api/docs/", include("config.openapi.urls")),
    re_path(r"^api/", problems.unknown_path),
]

handler400 = problems.bad_request
handler500 = problems.server_error
