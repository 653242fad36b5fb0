// The kernel for Python: arrays in, arrays out, nothing else. `persistence.py` checks what comes in.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

#include <optional>

#include "mask.hpp"
#include "partition.hpp"
#include "paths.hpp"
#include "persistence.hpp"

namespace nb = nanobind;
using namespace topofix;

namespace {

using Array = nb::ndarray<nb::ro, nb::device::cpu>;

// An image of either type, or one of a stack of them.
struct View {
    const char* data;
    bool is_double;
    std::size_t rank, voxels = 1;
    std::array<std::int64_t, 3> shape{}, strides{};

    explicit View(const Array& array, std::size_t skipped = 0, std::size_t index = 0)
        : data(static_cast<const char*>(array.data())),
          is_double(array.dtype() == nb::dtype<double>()),
          rank(array.ndim() - skipped) {
        const auto item = static_cast<std::int64_t>(array.itemsize());
        if (skipped == 1) data += static_cast<std::int64_t>(index) * array.stride(0) * item;
        for (std::size_t axis = 0; axis < rank; ++axis) {
            shape[axis] = static_cast<std::int64_t>(array.shape(axis + skipped));
            strides[axis] = array.stride(axis + skipped) * item;
            voxels *= array.shape(axis + skipped);
        }
    }

    template <class T>
    Image<T> image() const {
        return {data, shape, strides};
    }
};

template <class T>
nb::object numpy(std::vector<T> values) {
    auto* owned = new std::vector<T>(std::move(values));
    nb::capsule owner(owned, [](void* pointer) noexcept { delete static_cast<std::vector<T>*>(pointer); });
    return nb::cast(nb::ndarray<nb::numpy, T, nb::ndim<1>>(owned->data(), {owned->size()}, owner));
}

Orientation orientation_of(bool face) { return face ? Orientation::dual : Orientation::primal; }

// As many threads as there are, or as were asked for; fewer where each would have next to nothing to do.
int threads_for(int wanted, std::size_t voxels) {
    constexpr std::size_t worthwhile = std::size_t(1) << 15;
    const auto available =
        wanted > 0 ? static_cast<std::size_t>(wanted) : std::max(1u, std::thread::hardware_concurrency());
    return static_cast<int>(std::min(available, 1 + voxels / worthwhile));
}

std::vector<Bar> bars_of(const View& view, bool face, double min_persistence, int threads) {
    const auto bars = [&](auto rank, auto value) {
        using T = decltype(value);
        return Persistence<rank(), T>(view.image<T>(), orientation_of(face), threads).bars(min_persistence);
    };
    constexpr std::integral_constant<int, 2> flat{};
    constexpr std::integral_constant<int, 3> solid{};
    if (view.is_double) return view.rank == 2 ? bars(flat, 0.0) : bars(solid, 0.0);
    return view.rank == 2 ? bars(flat, 0.0f) : bars(solid, 0.0f);
}

// The bars of all images behind one another, and how many each has.
nb::tuple barcodes(const std::vector<View>& views, bool face, double min_persistence, int threads) {
    std::vector<std::int8_t> dimension;
    std::vector<std::int64_t> birth, death, size;
    {
        nb::gil_scoped_release release;
        std::vector<std::vector<Bar>> each(views.size());
        std::size_t voxels = 0;
        for (const View& view : views) voxels += view.voxels;
        const int workers = threads_for(threads, voxels);
        if (views.size() >= static_cast<std::size_t>(workers)) {
            std::atomic<std::size_t> next{0};
            in_parallel(workers, [&](int) {
                for (std::size_t i; (i = next.fetch_add(1)) < views.size();)
                    each[i] = bars_of(views[i], face, min_persistence, 1);
            });
        } else {
            for (std::size_t i = 0; i < views.size(); ++i)
                each[i] = bars_of(views[i], face, min_persistence, threads_for(threads, views[i].voxels));
        }
        for (const std::vector<Bar>& bars : each) {
            size.push_back(static_cast<std::int64_t>(bars.size()));
            for (const Bar& bar : bars) {
                dimension.push_back(static_cast<std::int8_t>(bar.dimension));
                birth.push_back(bar.birth);
                death.push_back(bar.death);
            }
        }
    }
    return nb::make_tuple(numpy(std::move(dimension)), numpy(std::move(birth)), numpy(std::move(death)),
                          numpy(std::move(size)));
}

nb::tuple barcodes_of_list(const std::vector<Array>& fields, bool face, double min_persistence, int threads) {
    std::vector<View> views;
    for (const Array& field : fields) views.emplace_back(field);
    return barcodes(views, face, min_persistence, threads);
}

nb::tuple barcodes_of_stack(const Array& stack, bool face, double min_persistence, int threads) {
    std::vector<View> views;
    for (std::size_t i = 0; i < stack.shape(0); ++i) views.emplace_back(stack, 1, i);
    return barcodes(views, face, min_persistence, threads);
}

std::vector<std::int64_t> betti_of(const Array& mask, bool face, int threads) {
    nb::gil_scoped_release release;
    const auto image = View(mask).image<std::uint8_t>();
    const int workers = threads_for(threads, mask.size());
    const auto listed = [](const auto& counts) {
        return std::vector<std::int64_t>(counts.begin(), counts.end());
    };
    if (mask.ndim() == 2) return listed(betti<2>(image, orientation_of(face), workers));
    return listed(betti<3>(image, orientation_of(face), workers));
}

nb::object simple_points_of(const Array& mask, bool face) {
    std::vector<std::uint8_t> simple(mask.size());
    {
        nb::gil_scoped_release release;
        const auto image = View(mask).image<std::uint8_t>();
        const auto found = [&](std::int64_t index) { simple[static_cast<std::size_t>(index)] = 1; };
        mask.ndim() == 2 ? simple_points<2>(image, orientation_of(face), found)
                         : simple_points<3>(image, orientation_of(face), found);
    }
    return numpy(std::move(simple));
}

template <class T>
using Values = nb::ndarray<const T, nb::c_contig, nb::device::cpu>;

template <int Rank>
std::array<std::int64_t, Rank> shape_of(const Values<std::uint8_t>& array) {
    std::array<std::int64_t, Rank> shape{};
    for (std::size_t axis = 0; axis < Rank; ++axis)
        shape[axis] = static_cast<std::int64_t>(array.shape(axis));
    return shape;
}

nb::object closed_path_of(const Values<std::uint8_t>& allowed, const Values<float>& costs,
                          std::int64_t closing, bool corners) {
    std::vector<std::int64_t> path;
    {
        nb::gil_scoped_release release;
        path = allowed.ndim() == 2
                   ? closed_path<2>(shape_of<2>(allowed), allowed.data(), costs.data(), closing, corners)
                   : closed_path<3>(shape_of<3>(allowed), allowed.data(), costs.data(), closing, corners);
    }
    return numpy(std::move(path));
}

template <int Rank>
void bind_partition(nb::module_& module, const char* name) {
    using P = Partition<Rank>;
    const auto wishes_of = [](const std::vector<std::vector<std::int64_t>>& asked) {
        std::vector<Wish> wishes;  // of each: low, high and found numbers by dimension, then the labels
        for (const std::vector<std::int64_t>& numbers : asked) {
            Wish wish;
            for (std::size_t k = 0; k < Rank; ++k) {
                wish.low[k] = numbers[k];
                wish.high[k] = numbers[Rank + k];
                wish.betti[k] = numbers[2 * Rank + k];
            }
            for (std::size_t i = 3 * Rank; i < numbers.size(); ++i)
                wish.holds[static_cast<std::size_t>(numbers[i])] = true;
            wishes.push_back(wish);
        }
        return wishes;
    };
    nb::class_<P>(module, name)
        .def(
            "__init__",
            [wishes_of](P* self, const Values<std::uint8_t>& labels, const Values<float>& costs,
                        const std::optional<Values<std::uint8_t>>& frozen,
                        const std::vector<std::vector<std::int64_t>>& wishes, bool face) {
                new (self)
                    P(shape_of<Rank>(labels), labels.data(), costs.data(), static_cast<int>(costs.shape(0)),
                      frozen ? frozen->data() : nullptr, wishes_of(wishes), face);
            },
            nb::arg("labels"), nb::arg("costs"), nb::arg("frozen").none(), nb::arg("wishes"), nb::arg("face"))
        .def("error", [](const P& self) { return self.error(); })
        .def("betti",
             [](const P& self) {
                 std::vector<std::vector<std::int64_t>> all;
                 for (const Wish& wish : self.wishes())
                     all.emplace_back(wish.betti.begin(), wish.betti.begin() + Rank);
                 return all;
             })
        .def("labels",
             [](const P& self) {
                 std::vector<std::uint8_t> labels(self.size());
                 self.copy_labels(labels.data());
                 return numpy(std::move(labels));
             })
        .def(
            "change",
            [](P& self, const Values<std::int64_t>& voxels, const Values<std::uint8_t>& labels) {
                nb::gil_scoped_release release;
                self.change(voxels.data(), labels.data(), voxels.size());
            },
            nb::arg("voxels"), nb::arg("labels"))
        .def(
            "sweep",
            [](const P& self, int region, bool grow, float limit, bool spreading,
               const Values<std::int64_t>& centres, std::int64_t radius, double seconds) {
                std::vector<Piece> pieces;
                {
                    nb::gil_scoped_release release;
                    pieces = self.sweep(region, grow,
                                        {limit,
                                         spreading,
                                         radius,
                                         {centres.data(), centres.data() + centres.size()},
                                         seconds});
                }
                nb::list list;
                for (Piece& piece : pieces)
                    list.append(
                        nb::make_tuple(numpy(std::move(piece.voxels)), numpy(std::move(piece.labels))));
                return list;
            },
            nb::arg("region"), nb::arg("grow"), nb::arg("limit"), nb::arg("spreading"), nb::arg("centres"),
            nb::arg("radius"), nb::arg("seconds"))
        .def(
            "freeze",
            [](P& self, const Values<std::int64_t>& voxels) { self.freeze(voxels.data(), voxels.size()); },
            nb::arg("voxels"))
        .def(
            "settle_to",
            [](P& self, const Values<std::uint8_t>& base) {
                nb::gil_scoped_release release;
                self.settle_to(base.data());
            },
            nb::arg("base"));
}

}  // namespace

NB_MODULE(_kernel, module) {
    module.def("barcodes_of_list", &barcodes_of_list, nb::arg("fields"), nb::arg("face"),
               nb::arg("min_persistence"), nb::arg("threads"));
    module.def("barcodes_of_stack", &barcodes_of_stack, nb::arg("stack"), nb::arg("face"),
               nb::arg("min_persistence"), nb::arg("threads"));
    module.def("betti", &betti_of, nb::arg("mask"), nb::arg("face"), nb::arg("threads"));
    module.def("simple_points", &simple_points_of, nb::arg("mask"), nb::arg("face"));
    module.def("closed_path", &closed_path_of, nb::arg("allowed"), nb::arg("costs"), nb::arg("closing"),
               nb::arg("corners"));
    bind_partition<2>(module, "Partition2");
    bind_partition<3>(module, "Partition3");
}
