"""The URLs of all pages; `config/urls.py` puts them before the admin's own, in the namespace `console`."""

from django.urls import URLPattern, path

from accounts import login, pages
from console import changelog, chatbots, lookup
from console import help as help_pages
from console.conversations import log_page, redact_page, transcript_page
from console.filing import views
from console.holds import hold_page, place_page
from console.monitoring import dashboard, files, notifications
from console.requests import due_page, list_page, request_page
from console.settings import bucket, forms, key_forms, retention_forms
from console.settings.page import check_progress, saving, settings_overview, settings_page

_REQUEST = "requests/<uuid:request_id>/"
_HOLD = "holds/<uuid:hold_id>/"
_SETTINGS = "settings/<slug:slug>/"

urlpatterns: list[URLPattern] = [
    path("login/code/", login.ask_code, name="login_code"),
    path("set-password/", pages.set_password, name="set_password"),
    path("confirm-password/", pages.confirm_password, name="confirm_password"),
    path("second-factor/", pages.overview, name="second_factor"),
    path("second-factor/set-up/", pages.set_up, name="second_factor_set_up"),
    path("second-factor/recovery-codes/", pages.renew_recovery_codes, name="second_factor_recovery_codes"),
    path("second-factor/remove/", pages.remove, name="second_factor_remove"),
    path("", dashboard.dashboard, name="dashboard"),
    path("conversations/", log_page.log, name="conversations"),
    path("conversations/<int:number>/", transcript_page.transcript, name="conversation"),
    path("conversations/<int:number>/files/<int:file_id>/", transcript_page.file, name="conversation_file"),
    path("conversations/<int:number>/redact/", redact_page.redact, name="redact"),
    path("lookup/", lookup.look_up_page, name="lookup"),
    path("requests/", list_page.requests, name="requests"),
    path("due/", due_page.due, name="due"),
    path("requests/decide/", list_page.decide, name="requests_decide"),
    path(_REQUEST, request_page.request_page, name="request"),
    path(f"{_REQUEST}progress/", request_page.progress, name="request_progress"),
    path(f"{_REQUEST}download/", request_page.download, name="request_download"),
    path(f"{_REQUEST}download/<str:file>/", request_page.download, name="request_copy"),
    path(f"{_REQUEST}letters/<slug:kind>.<slug:form>", request_page.letter, name="request_letter"),
    path(f"{_REQUEST}whom/", request_page.show_subject, name="request_whom"),
    path(f"{_REQUEST}erase_unheld/", request_page.limit, name="limit_request"),
    path(f"{_REQUEST}<slug:action>/", request_page.act, name="request_action"),
    path("file/", views.choose_chatbot, name="file"),
    path("file/<slug:slug>/", views.file_request, name="file_request"),
    path("file/<slug:slug>/many/", views.file_many, name="file_many"),
    path("holds/", hold_page.holds_list, name="holds"),
    path("holds/place/", place_page.choose_chatbot, name="choose_hold_chatbot"),
    path("holds/place/<slug:slug>/", place_page.place, name="place_hold"),
    path(_HOLD, hold_page.hold_page, name="hold"),
    path(f"{_HOLD}value/", hold_page.show_value, name="hold_value"),
    path(f"{_HOLD}review/", hold_page.review, name="review_hold"),
    path(f"{_HOLD}release/", hold_page.release, name="release_hold"),
    path("exports/", files.exports, name="exports"),
    path("extracts/", files.extracts, name="extracts"),
    path("extracts/again/", files.rebuild, name="extracts_again"),
    path("refused-identities/", dashboard.refused_identities, name="refused_identities"),
    path("chatbots/", chatbots.chatbots, name="chatbots"),
    path("chatbots/new/", chatbots.new_chatbot, name="new_chatbot"),
    path(_SETTINGS, settings_overview, name="settings"),
    path(f"{_SETTINGS}guides/<slug:guide>/", help_pages.guide_page, name="guide"),
    path(f"{_SETTINGS}compliance/", saving(forms.ComplianceForm), name="switch_compliance"),
    path(f"{_SETTINGS}extracts/", saving(forms.ExtractsForm), name="switch_extracts"),
    path(f"{_SETTINGS}retention/", saving(retention_forms.RetentionForm), name="set_retention"),
    path(f"{_SETTINGS}uci/", saving(forms.UciForm), name="choose_uci"),
    path(f"{_SETTINGS}assurance/", saving(forms.AssuranceForm), name="set_export_assurance"),
    path(f"{_SETTINGS}variables/", saving(forms.VariableForm), name="create_variable"),
    path(f"{_SETTINGS}bucket/", saving(bucket.BucketForm), name="save_bucket"),
    path(f"{_SETTINGS}bucket/check/", saving(bucket.CheckForm), name="check_access"),
    path(f"{_SETTINGS}bucket/check/progress/", check_progress, name="check_progress"),
    path(f"{_SETTINGS}bucket/exports/", saving(forms.ExportsForm), name="set_exports"),
    path(f"{_SETTINGS}credentials/", saving(bucket.NewCredentialForm), name="issue_credentials"),
    path(f"{_SETTINGS}credentials/record/", saving(bucket.RecordCredentialForm), name="record_credentials"),
    path(
        f"{_SETTINGS}credentials/<uuid:credential>/revoke/",
        saving(bucket.RevokeCredentialForm),
        name="revoke_credentials",
    ),
    path(f"{_SETTINGS}rules/", saving(forms.RulesForm), name="save_rules"),
    path(f"{_SETTINGS}keys/", saving(key_forms.NewApiKeyForm), name="create_key"),
    path(f"{_SETTINGS}keys/identity/", saving(key_forms.NewIdentityKeyForm), name="create_identity_key"),
    path(f"{_SETTINGS}keys/<slug:prefix>/revoke/", saving(key_forms.RevokeForm), name="revoke_key"),
    path(f"{_SETTINGS}keys/<slug:prefix>/limit/", saving(key_forms.RateLimitForm), name="change_limit"),
    path(f"{_SETTINGS}callbacks/", saving(key_forms.CallbackSecretForm), name="create_callback_secret"),
    path(f"{_SETTINGS}callbacks/test/", saving(key_forms.TestCallbackForm), name="send_test_callback"),
    path(f"{_SETTINGS}resolver/try/", saving(forms.TrialForm), name="try_resolver"),
    path(f"{_SETTINGS}members/", saving(forms.MemberForm), name="set_member"),
    # After the forms that are submitted to a page's address: they show the page.
    path(f"{_SETTINGS}<slug:name>/", settings_page, name="settings_page"),
    path("callbacks/", notifications.callbacks, name="callbacks"),
    path("callbacks/resend/", notifications.resend, name="callbacks_resend"),
    path("workers/", dashboard.workers, name="workers"),
    path("changelog/", changelog.changelog, name="changelog"),
    path("changelog/download/", changelog.download, name="changelog_download"),
    path("mails/", notifications.mails, name="mails"),
    path("help/", help_pages.index, name="help"),
    path("help/<slug:name>/", help_pages.help_page, name="help_page"),
]
