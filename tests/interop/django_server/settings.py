"""What Django is told, in the names that it looks for."""

from __future__ import annotations

import os

ALLOWED_HOSTS = ["127.0.0.1"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("DJANGO_DATABASE", ":memory:"),
    }
}
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "oauth2_provider",
]
OAUTH2_PROVIDER = {
    "SCOPES": {
        "notes.read": "Read your notes",
        "notes.write": "Add to your notes",
    },
}
# Secrets of clients are hashed like passwords, and the default takes its time.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
ROOT_URLCONF = "tests.interop.django_server.urls"
SECRET_KEY = "only-for-tests"
USE_TZ = True
