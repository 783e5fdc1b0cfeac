from django.apps import apps
from django.contrib import admin
from django.urls import include, path, re_path

from config import problems
from config.openapi import views as openapi

admin.site.site_header = admin.site.site_title = "Data Compliance"
admin.site.site_url = None
# A schedule names any Python function to run: those of the code are synced, and a form for others is a way in.
admin.site.unregister(apps.get_model("django_q", "Schedule"))

urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/v1/chatbots/<slug:slug>/", include("conversations.api.urls")),
    path("api/v1/chatbots/<slug:slug>/", include("compliance.api.urls")),
    path("api/schema/", openapi.schema, name="schema"),
    path("api/docs/", include("config.openapi.urls")),
    re_path(r"^api/", problems.unknown_path),
]

handler400 = problems.bad_request
handler500 = problems.server_error
