from django.contrib import admin

from shop.models import Category, Item, Order, Product


class ItemInline(admin.TabularInline):
    model = Item


@admin.register(Category)
class CategoryAdmin(admin.ModelAdmin):
    search_fields = ("name",)


@admin.register(Product)
class ProductAdmin(admin.ModelAdmin):
    list_display = ("name", "category", "price", "stock")
    list_filter = ("category",)
    search_fields = ("name", "description")


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):
    inlines = (ItemInline,)
    date_hierarchy = "placed"
