from django.core.management.commands import migrate

from common.autodetector import Autodetector


class Command(migrate.Command):
    autodetector = Autodetector
