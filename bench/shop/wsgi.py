"""`application`, and how its database is made: SHOP_DATABASE=FILE python -m shop.wsgi"""

import os
import sys

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

from django.core.wsgi import get_wsgi_application

_django = get_wsgi_application()


def application(environ, start_response):
    """The site; every response says which process it is from."""

    def start(status, headers, exc_info=None):
        return start_response(status, [*headers, ("X-Process", str(os.getpid()))], exc_info)

    return _django(environ, start)


def fill():
    """Make the tables and put some goods in."""
    from django.core.management import call_command

    from shop.models import Category, Product

    call_command("migrate", run_syncdb=True, verbosity=0)
    for c in range(12):
        category = Category.objects.create(name=f"Category {c}", slug=f"category-{c}")
        Product.objects.bulk_create(
            Product(category=category, name=f"Product {c}-{p}", description="Good. " * 20,
                    price=p * 1.25 + 1, stock=p % 7)
            for p in range(40))


if __name__ == "__main__":
    if not os.environ.get("SHOP_DATABASE"):
        sys.exit("SHOP_DATABASE names the file")
    fill()
