from django.apps import apps
from django.contrib import admin
from django.urls import include, path, re_path

import console.urls
from common import problems
from compliance.api import downloads
from config.large_bodies import may_send
from config.openapi import views as openapi

admin.autodiscover()
# django-q2's pages can run any function: by the form of a schedule, by retrying a failed task. The page Workers shows
# the state of tasks.
admin.site.unregister(list(filter(admin.site.is_registered, apps.get_app_config("django_q").get_models())))

urlpatterns = [
    path("", openapi.start),
    # Our own pages take precedence over the admin's.
    path("admin/", include((console.urls, "console"))),
    path("admin/", admin.site.urls),
    path("api/v1/chatbots/<slug:slug>/", include("conversations.api.urls")),
    path("api/v1/chatbots/<slug:slug>/", include("compliance.api.urls")),
    path("api/downloads/<str:token>", downloads.download, name="download"),
    path("api/schema/", openapi.schema, name="schema"),
    path("api/schema/export/", openapi.export_schema, name="export_schema"),
    path("api/docs/", include((openapi.urlpatterns, "docs"))),
    path("api/may-send", may_send),
    re_path(r"^api/", problems.unknown_path),
]

handler400 = problems.bad_request
handler500 = problems.server_error
