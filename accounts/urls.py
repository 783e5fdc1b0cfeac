"""The URLs of log-in and second factor, part of those of the console."""

from django.urls import path

from accounts import login, pages

urlpatterns = [
    path("login/code/", login.ask_code, name="login_code"),
    path("confirm-password/", pages.confirm_password, name="confirm_password"),
    path("second-factor/", pages.overview, name="second_factor"),
    path("second-factor/set-up/", pages.set_up, name="second_factor_set_up"),
    path("second-factor/recovery-codes/", pages.renew_recovery_codes, name="second_factor_recovery_codes"),
    path("second-factor/remove/", pages.remove, name="second_factor_remove"),
]
