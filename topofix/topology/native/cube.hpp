// What the neighbours of a voxel say about it, as arithmetic on sets of bits.
//
// A voxel is a closed square or cube. Its boundary consists of cells, and each cell lies towards one neighbour,
// so one code serves both: a digit of base 3 per axis, slowest axis first, the centre being the voxel itself.
//
//      +---+---+---+        digit   cell (open)             neighbour
//      | 0 | 1 | 2 |          0     the low end             one step down the axis
//      +---+---+---+          1     all along the axis      no step
//      | 3 | 4 | 5 |          2     the high end            one step up
//      +---+---+---+
//      | 6 | 7 | 8 |        In 2-D, 1 3 5 7 are edges (or the neighbours beside them), 0 2 6 8 vertices.
//      +---+---+---+        In 3-D there are 27 codes: 6 faces, 12 edges, 8 vertices and the centre, 13.
//
// A cell lies on every neighbour that one reaches by a part of its digits: vertex 0 lies on 0, 1 and 3. Two
// cells of which one lies on the other differ by one in one digit. So a set of codes is a bit mask, and both
// "which cells lie on these neighbours" and "which cells hang together" are shifts of it by 1, 3 and 9.
//
// Let L be the cells that lie on the neighbours that are there already. Adding the voxel changes nothing if L is
// contractible (a simple point). Else each piece of L beyond the first closes a gap between components or makes
// a loop, and each piece of the rest of the boundary beyond the first ends a loop or makes a void: k pieces of L
// and m pieces of the rest are Betti numbers k and m - 1 of L (Alexander duality on the circle or the sphere).
//
// References: T. Y. Kong, A. Rosenfeld, "Digital topology: introduction and survey", CVGIP 48, 1989 (simple
// points). R. Forman, "Morse theory for cell complexes", Adv. Math. 134, 1998 (discrete gradients).

#pragma once

#include <array>
#include <cstdint>
#ifdef _MSC_VER
#include <intrin.h>
#endif

namespace topofix {

using Set = std::uint32_t;   // of codes, one bit each
using Word = std::uint64_t;  // one bit for each of 64 voxels in a row

template <int Rank>
constexpr int codes = Rank == 2 ? 9 : 27;

template <int Rank>
constexpr int centre = codes<Rank> / 2;

template <int Rank>
constexpr int power(int axis) {
    int value = 1;
    for (int later = axis + 1; later < Rank; ++later) value *= 3;
    return value;
}

template <int Rank>
constexpr int digit(int code, int axis) {
    return code / power<Rank>(axis) % 3;
}

template <int Rank>
constexpr int dimension(int cell) {
    int count = 0;
    for (int axis = 0; axis < Rank; ++axis) count += digit<Rank>(cell, axis) == 1;
    return count;
}

// For each axis, the codes with each digit.
template <int Rank>
constexpr auto with_digit = [] {
    std::array<std::array<Set, 3>, Rank> sets{};
    for (int axis = 0; axis < Rank; ++axis)
        for (int code = 0; code < codes<Rank>; ++code) sets[axis][digit<Rank>(code, axis)] |= Set(1) << code;
    return sets;
}();

template <int Rank>
constexpr auto of_dimension = [] {
    std::array<Set, Rank + 1> sets{};
    for (int code = 0; code < codes<Rank>; ++code) sets[dimension<Rank>(code)] |= Set(1) << code;
    return sets;
}();

template <int Rank>
constexpr Set boundary = ((Set(1) << codes<Rank>)-1) & ~(Set(1) << centre<Rank>);

template <int Rank>
constexpr Set faces = of_dimension<Rank>[Rank - 1];  // cells with a voxel on either side

template <int Rank>
constexpr Set edges = of_dimension<Rank>[1];

template <int Rank>
constexpr Set vertices = of_dimension<Rank>[0];

inline int lowest(Set set) {
#ifdef _MSC_VER
    unsigned long index;
    _BitScanForward(&index, set);
    return int(index);
#else
    return __builtin_ctz(set);
#endif
}

inline int lowest(Word word) {
#ifdef _MSC_VER
    unsigned long index;
    _BitScanForward64(&index, word);
    return int(index);
#else
    return __builtin_ctzll(word);
#endif
}

constexpr Set only(int code) { return Set(1) << code; }

constexpr int count(Set set) {
    set -= set >> 1 & 0x55555555;
    set = (set & 0x33333333) + (set >> 2 & 0x33333333);
    return int(((set + (set >> 4)) & 0x0f0f0f0f) * 0x01010101 >> 24);
}

// The cells that lie on any of some neighbours.
template <int Rank>
constexpr Set cells_on(Set neighbours) {
    Set set = neighbours;
    for (int axis = 0, step = 1; axis < Rank; ++axis, step *= 3) {
        const Set middle = set & with_digit<Rank>[Rank - 1 - axis][1];
        set |= middle << step | middle >> step;
    }
    return set;
}

// The set and all cells that lie on one of its cells or on which one of them lies.
template <int Rank>
constexpr Set grown(Set set) {
    Set more = set;
    for (int axis = 0, step = 1; axis < Rank; ++axis, step *= 3) {
        more |= (set & ~with_digit<Rank>[Rank - 1 - axis][2]) << step;
        more |= (set & ~with_digit<Rank>[Rank - 1 - axis][0]) >> step;
    }
    return more;
}

// The piece of a set of cells that hangs together with its lowest one; empty for the empty set.
template <int Rank>
constexpr Set first_piece(Set set) {
    Set piece = 0;
    for (Set more = set & (~set + 1); more != piece; more = grown<Rank>(more) & set) piece = more;
    return piece;
}

// Pieces of a set of cells: at most 4 on a circle and 8 on the surface of a cube.
struct Pieces {
    std::array<Set, 8> piece{};
    int count = 0;

    template <int Rank>
    static constexpr Pieces of(Set set) {
        Pieces all;
        for (; set != 0; set &= ~all.piece[all.count++]) all.piece[all.count] = first_piece<Rank>(set);
        return all;
    }
};

constexpr auto pieces_in_2d = [] {
    std::array<Pieces, 1 << codes<2>> table{};
    for (Set set = 0; set < table.size(); ++set) table[set] = Pieces::of<2>(set);
    return table;
}();

// The pieces of a set of cells; in 2-D they are looked up.
template <int Rank>
inline decltype(auto) pieces_of(Set set) {
    if constexpr (Rank == 2)
        return (pieces_in_2d[set]);
    else
        return Pieces::of<Rank>(set);
}

template <int Rank>
inline int euler_characteristic(Set cells) {
    int sum = 0;
    for (int k = 0, sign = 1; k < Rank; ++k, sign = -sign) sum += sign * count(cells & of_dimension<Rank>[k]);
    return sum;
}

// Whether adding (or removing) a voxel with these neighbours changes no component, hole or void.
template <int Rank>
constexpr bool is_simple(Set neighbours) {
    const Set there = cells_on<Rank>(neighbours), rest = boundary<Rank> & ~there;
    return there != 0 && rest != 0 && first_piece<Rank>(there) == there && first_piece<Rank>(rest) == rest;
}

template <Set set>
constexpr auto members = [] {
    constexpr int size = [] {
        int bits = 0;
        for (Set rest = set; rest != 0; rest &= rest - 1) ++bits;
        return bits;
    }();
    std::array<int, size> codes{};
    for (int code = 0, i = 0; code < 32; ++code)
        if (set >> code & 1) codes[i++] = code;
    return codes;
}();

// An edge of the cube and the two faces that meet in it.
struct Sides {
    int edge, a, b;
};

constexpr auto sides = [] {
    std::array<Sides, 12> all{};
    int i = 0;
    for (int edge : members<edges<3>>) {
        const Set two = grown<3>(only(edge)) & faces<3>;
        all[i].edge = edge;
        for (int face : members<faces<3>>)
            if (two & only(face)) (two & (only(face) - 1) ? all[i].b : all[i].a) = face;
        ++i;
    }
    return all;
}();

// Where exactly `wanted` of the words have a bit: a column of adders, one per binary digit of the sum.
template <std::size_t Count>
inline Word exactly(int wanted, const std::array<Word, Count>& words) {
    static_assert(Count % 2 == 0 && Count < 32);
    Word sum[5] = {};
    for (std::size_t i = 0; i < Count; i += 2) {
        const Word half = sum[0] ^ words[i];
        Word carry = (sum[0] & words[i]) | (half & words[i + 1]);
        sum[0] = half ^ words[i + 1];
        for (int k = 1; k < 5; ++k) {
            const Word next = sum[k] & carry;
            sum[k] ^= carry;
            carry = next;
        }
    }
    Word equal = ~Word(0);
    for (int k = 0; k < 5; ++k) equal &= wanted >> k & 1 ? sum[k] : ~sum[k];
    return equal;
}

// Which of 64 voxels are simple, from one word per neighbour: L has Euler characteristic 1 and, in 3-D, the
// rest of the boundary is one piece. (On a circle the first implies the second.)
template <int Rank>
inline Word simple(const std::array<Word, codes<Rank>>& neighbours) {
    std::array<Word, codes<Rank>> there = neighbours;
    for (int axis = 0; axis < Rank; ++axis)
        for (int code = 0; code < codes<Rank>; ++code)
            if (digit<Rank>(code, axis) != 1) {
                const int step = (1 - digit<Rank>(code, axis)) * power<Rank>(axis);
                there[code] |= there[code + step];
            }

    // even cells - odd cells = 1, as a count of ones: even cells that are there, odd ones that are not
    std::array<Word, codes<Rank> - 1> counted;
    int odd = 0;
    for (int code = 0, i = 0; code < codes<Rank>; ++code) {
        if (code == centre<Rank>) continue;
        const bool negative = dimension<Rank>(code) % 2 == 1;
        odd += negative;
        counted[i++] = negative ? ~there[code] : there[code];
    }
    Word result = exactly(1 + odd, counted);

    if constexpr (Rank == 3) {
        // Flood the faces that are not there, from the lowest one, across the edges that are not there.
        std::array<Word, codes<Rank>> flooded;
        Word lower = 0;
        for (int face : members<faces<Rank>>) {
            flooded[face] = ~there[face] & ~lower;
            lower |= ~there[face];
        }
        Word changed;
        do {
            changed = 0;
            for (const auto& [edge, a, b] : sides) {
                const Word both = (flooded[a] | flooded[b]) & ~there[edge];
                changed |= both & ~(flooded[a] & flooded[b]);
                flooded[a] |= both;
                flooded[b] |= both;
            }
        } while (changed != 0);
        for (int face : members<faces<Rank>>) result &= flooded[face] ^ there[face];
    }
    return result;
}

}  // namespace topofix
