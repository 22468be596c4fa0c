from django import forms
from django.core.paginator import Paginator
from django.db.models import Count, Sum
from django.http import HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render

from shop.models import Category, Product


class SearchForm(forms.Form):
    words = forms.CharField(max_length=100, required=False)
    in_stock = forms.BooleanField(required=False)
    at_most = forms.DecimalField(required=False, min_value=0)


def health(request):
    """The answer of `sites.plain.hello`, by which servers.Client knows that the server is there."""
    return HttpResponse("Hello, World!\n", content_type="text/plain")


def catalogue(request):
    form = SearchForm(request.GET)
    products = Product.objects.select_related("category")
    if form.is_valid():
        if words := form.cleaned_data["words"]:
            products = products.filter(name__icontains=words)
        if form.cleaned_data["in_stock"]:
            products = products.filter(stock__gt=0)
        if (price := form.cleaned_data["at_most"]) is not None:
            products = products.filter(price__lte=price)
    page = Paginator(products, 20).get_page(request.GET.get("page"))
    categories = Category.objects.annotate(size=Count("products"))
    context = {"form": form, "page": page, "categories": categories}
    return render(request, "shop/catalogue.html", context)


def product(request, number):
    found = get_object_or_404(Product.objects.select_related("category"), pk=number)
    return render(request, "shop/product.html", {"product": found})


def stock(request):
    rows = Category.objects.annotate(size=Count("products"), stock=Sum("products__stock"))
    return JsonResponse({c.slug: {"products": c.size, "stock": c.stock} for c in rows})
