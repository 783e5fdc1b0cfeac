"""The paths of the settings' page and its actions."""

from django.urls import path

from console.settings import actions
from console.settings.page import check_progress, settings_page

_HERE = "settings/<slug:slug>/"

urlpatterns = [
    path(_HERE, settings_page, name="settings"),
    path(f"{_HERE}compliance/", actions.switch_compliance, name="switch_compliance"),
    path(f"{_HERE}extracts/", actions.switch_extracts, name="switch_extracts"),
    path(f"{_HERE}uci/", actions.choose_uci, name="choose_uci"),
    path(f"{_HERE}variables/", actions.create_variable, name="create_variable"),
    path(f"{_HERE}bucket/", actions.save_bucket, name="save_bucket"),
    path(f"{_HERE}bucket/check/", actions.check_access, name="check_access"),
    path(f"{_HERE}bucket/check/progress/", check_progress, name="check_progress"),
    path(f"{_HERE}rules/", actions.save_rules, name="save_rules"),
    path(f"{_HERE}keys/", actions.create_key, name="create_key"),
    path(f"{_HERE}keys/<slug:prefix>/revoke/", actions.revoke_key, name="revoke_key"),
    path(f"{_HERE}keys/<slug:prefix>/limit/", actions.change_limit, name="change_limit"),
    path(f"{_HERE}callbacks/", actions.create_callback_secret, name="create_callback_secret"),
    path(f"{_HERE}members/", actions.set_member, name="set_member"),
]
