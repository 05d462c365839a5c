"""Django's settings. What an operator may change is in `environment.py`; the rest is decided here."""

import secrets
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.templatetags.static import static
from django.urls import reverse_lazy
from django.utils.translation import gettext_lazy as _
from psycopg.conninfo import conninfo_to_dict

from .environment import Environment

BASE_DIR = Path(__file__).resolve().parent.parent.parent
ENVIRONMENT = Environment().resolved()

DATA_DIR = ENVIRONMENT.data_dir.resolve()
# Objects are in a bucket with this URL, else in the folder.
OBJECT_STORE_URL = ENVIRONMENT.object_store_url if ENVIRONMENT.object_store_url.startswith("s3:") else ""
OBJECTS_DIR = DATA_DIR / "objects"
if ENVIRONMENT.object_store_url and not OBJECT_STORE_URL:
    OBJECTS_DIR = Path(ENVIRONMENT.object_store_url).resolve()
# What arrives, until it is handed to the object store.
INCOMING_DIR = DATA_DIR / "incoming"
MAX_ARTIFACT_BYTES = ENVIRONMENT.max_artifact_bytes
MAX_TENANT_ARTIFACT_BYTES = ENVIRONMENT.max_tenant_artifact_bytes
MAX_OPEN_UPLOADS = ENVIRONMENT.max_open_uploads
UPLOAD_EXPIRES_HOURS = ENVIRONMENT.upload_expires_hours
PUBLIC_URL = ENVIRONMENT.public_url.rstrip("/")
TRITON_URLS = [url.strip() for url in ENVIRONMENT.triton_urls.split(",") if url.strip()]
TRITON_MEMORY_BYTES = ENVIRONMENT.triton_memory_bytes
INFERENCE_TIMEOUT_SECONDS = ENVIRONMENT.inference_timeout_seconds
GENERATION_TIMEOUT_SECONDS = ENVIRONMENT.generation_timeout_seconds
CALLS_PER_KEY = ENVIRONMENT.calls_per_key
PUBLIC_GRPC_URL = ENVIRONMENT.public_grpc_url
GRPC_PORT = ENVIRONMENT.grpc_port
GRPC_TLS_CERTIFICATE = ENVIRONMENT.grpc_tls_certificate
GRPC_TLS_KEY = ENVIRONMENT.grpc_tls_key
GRAPHQL_INTROSPECTION = ENVIRONMENT.introspection
GRAPHIQL = ENVIRONMENT.graphiql

# A key drawn afresh signs nobody in after a restart, but it never lets a forged session in.
SECRET_KEY = ENVIRONMENT.secret_key or secrets.token_urlsafe(48)
DEBUG = ENVIRONMENT.debug
ALLOWED_HOSTS = [
    *(host.strip() for host in ENVIRONMENT.allowed_hosts.split(",") if host.strip()),
    urlsplit(PUBLIC_URL).hostname or "localhost",
]
HTTPS = PUBLIC_URL.startswith("https://")
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"

INSTALLED_APPS = [
    "unfold.apps.BasicAppConfig",
    "marketplace.config.apps.StaffAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.postgres",
    "django.contrib.staticfiles",
    "allauth",
    "allauth.account",
    "django_htmx",
    "guardian",
    "csp",
    "strawberry_django",
    "marketplace.config.apps.CompositionConfig",
    "marketplace.embedded",
    "marketplace.tenants",
    "marketplace.catalog",
    "marketplace.subscriptions",
    "marketplace.metering",
    "marketplace.publishing",
    "inference",
    "graphql_api",
    "frontend",
    "demo",
]

# Every one of these runs natively under ASGI: a sync-only middleware would cost each request a thread hop.
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]

ROOT_URLCONF = "marketplace.config.urls"
ASGI_APPLICATION = "marketplace.config.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "frontend"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]


def _database(url: str) -> dict[str, Any]:
    """Connection parameters from a libpq URI or keyword string.

    pg_trgm's default threshold (0.6) misses one typo in a short word; 0.45 finds it and still ranks it last.
    """
    parameters = conninfo_to_dict(url)
    options = f"{parameters.get('options') or ''} -c pg_trgm.word_similarity_threshold=0.45".strip()
    names = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
    return {
        "ENGINE": "django.db.backends.postgresql",
        # A connection that a restarted server dropped is replaced before a request meets it.
        "CONN_HEALTH_CHECKS": True,
        **{django: str(parameters.pop(libpq, "") or "") for libpq, django in names.items()},
        "OPTIONS": {
            **{key: value for key, value in parameters.items() if key != "options"},
            "options": options,
            # Async Django opens a connection per request unless it may borrow one.
            **({"pool": {"min_size": 1, "max_size": 16, "timeout": 5}} if ENVIRONMENT.database_url else {}),
        },
    }


# Without an address (`make check`) nothing connects, but models and migrations can still be compared.
DATABASES = {"default": _database(ENVIRONMENT.database_url or "postgresql:///marketplace")}

# Valkey may die while people sign in: what must be counted (sign-in attempts) is counted where the accounts are.
CACHES = {"default": {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "django_cache"}}

VALKEY_URL = ENVIRONMENT.valkey_url or "redis://127.0.0.1:6379/0"

AUTH_USER_MODEL = "tenants.User"
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
    "guardian.backends.ObjectPermissionBackend",
]
# guardian's anonymous user counts as signed in for code that only asks `is_authenticated`.
ANONYMOUS_USER_NAME = None
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]

ACCOUNT_ADAPTER = "marketplace.tenants.signup.AccountAdapter"
ACCOUNT_SIGNUP_FORM_CLASS = "marketplace.tenants.signup.SignupForm"
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_LOGOUT_ON_GET = False
ACCOUNT_SESSION_REMEMBER = True
LOGIN_URL = reverse_lazy("account_login")
LOGIN_REDIRECT_URL = "/"
EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"

UNFOLD = {
    # The site's own green (frontend/static/site.css: --accent).
    "COLORS": {
        "primary": {
            "50": "#f0faf6",
            "100": "#e2f1eb",
            "200": "#c1e3d6",
            "300": "#93cfb8",
            "400": "#56cba1",
            "500": "#1f9a72",
            "600": "#0b6b4f",
            "700": "#08533d",
            "800": "#064231",
            "900": "#053527",
            "950": "#02211a",
        }
    },
    "SITE_URL": "/",
    "SHOW_VIEW_ON_SITE": False,
    "STYLES": [lambda _request: static("console/console.css")],
    "SCRIPTS": [lambda _request: static("console/console.js")],
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": lambda _request: static("logo.svg")}],
    "ACCOUNT": {"navigation": [{"title": _("Change password"), "link": reverse_lazy("account_change_password")}]},
}

LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English"))]
LOCALE_PATHS = [BASE_DIR / "locale"]
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"
FORMAT_MODULE_PATH = ["marketplace.config.formats"]

STATIC_URL = "static/"
STATIC_ROOT = DATA_DIR / "static"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
}

# What tells whether a version bears the merging of requests: a room above those that ask.
MERGING_TRIAL = "inference.deployment.loading.try_out"

# A tensor of the largest size, as base64 in JSON, still fits; nothing bigger is ever read.
DATA_UPLOAD_MAX_MEMORY_SIZE = 96 * 1024 * 1024

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "img-src": ["'self'", "data:", "blob:"],
        "style-src": ["'self'"],
        "object-src": ["'none'"],
        "base-uri": ["'self'"],
        "frame-ancestors": ["'none'"],
        "form-action": ["'self'"],
    }
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"request_id": {"()": "marketplace.trace.RequestId"}},
    "formatters": {"plain": {"format": "%(levelname)s %(name)s [%(request_id)s]: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain", "filters": ["request_id"]}},
    "root": {"handlers": ["console"], "level": "INFO"},
    "loggers": {"httpx": {"level": "WARNING"}, "botocore": {"level": "WARNING"}, "django.request": {"level": "ERROR"}},
}
