from django.urls import path

from config.openapi import pages

app_name = "docs"

urlpatterns = [
    path("", pages.reference, name="reference"),
    path("try/", pages.try_it, name="try"),
    # Without a slash at the end: the `type` of each error leads here.
    path("errors", pages.errors, name="errors"),
]
