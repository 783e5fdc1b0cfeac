from django.apps import apps
from django.contrib import admin
from django.urls import include, path, re_path

import console.urls
from common import problems
from config.openapi import views as openapi

# By django-q2's pages any function can be run: by a schedule's form, by trying a failed task again. What is worth
# knowing of tasks is told by the page Workers.
admin.site.unregister(list(filter(admin.site.is_registered, apps.get_app_config("django_q").get_models())))

urlpatterns = [
    # The pages of our own stand in front of the admin's.
    path("admin/", include((console.urls, "console"))),
    path("admin/", admin.site.urls),
    path("api/v1/chatbots/<slug:slug>/", include("conversations.api.urls")),
    path("api/v1/chatbots/<slug:slug>/", include("compliance.api.urls")),
    path("api/schema/", openapi.schema, name="schema"),
    path("api/docs/", include("config.openapi.urls")),
    re_path(r"^api/", problems.unknown_path),
]

handler400 = problems.bad_request
handler500 = problems.server_error
