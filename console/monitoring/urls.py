"""The paths of the pages to watch by."""

from django.urls import URLPattern, path

from console.monitoring import callbacks, dashboard, exports, mails, workers

urlpatterns: list[URLPattern] = [
    path("", dashboard.dashboard, name="dashboard"),
    path("exports/", exports.exports, name="exports"),
    path("callbacks/", callbacks.callbacks, name="callbacks"),
    path("callbacks/resend/", callbacks.resend, name="callbacks_resend"),
    path("workers/", workers.workers, name="workers"),
    path("mails/", mails.mails, name="mails"),
]
