from django.contrib import admin
from django.urls import path

from shop import views

urlpatterns = [
    path("", views.health),
    path("catalogue", views.catalogue, name="catalogue"),
    path("product/<int:number>", views.product, name="product"),
    path("api/stock", views.stock),
    path("admin/", admin.site.urls),
]
